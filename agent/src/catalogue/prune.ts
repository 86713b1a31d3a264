import { packKey, planKey, revocationKey, sessionKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted, type ObjectStore } from '../storage/object-store.ts';
import { dropPacksFromIndex } from './merge-index.ts';
import { MAX_PLANNED_PACKS, putPlan, readPlans } from './plans.ts';
import { References, type PackReader } from './references.ts';
import { splitByPolicy, type RetentionPolicy } from './retention.ts';
import { isVoid, putRevocation, readRevocations, type Revocations } from './revocations.ts';
import { listManifests, listPacks, listSessions, type ListedManifest } from './store-listing.ts';

/** Deletions at once. */
const MAX_DELETES = 16;
/** Between two looks at sessions that have not ended: a listing costs money, a second costs nobody anything. */
const POLL_MS = 1_000;
/** An epoch from here on was given by a control plane, which alone decides what its workspace may lose. */
const FIRST_MANAGED_EPOCH = 1;

export type PrunePhase = 'forget' | 'references' | 'waiting' | 'index' | 'delete';

export interface PruneOptions {
  readonly store: ObjectStore;
  /** Fresh: 128 random bits as 32 hexadecimal digits. */
  readonly pruneId: string;
  readonly clock: Clock;
  readonly readPacks: PackReader;
  readonly policy: RetentionPolicy;
  /** The only workspace to forget snapshots of; all when absent. Packs are collected in the whole store either way. */
  readonly workspaceId?: WorkspaceId | undefined;
  /** Sessions announced longer ago are not waited for. It bounds waiting; nothing is lost or kept by it. */
  readonly revokeOlderThanMs: number;
  /** Longest wait for the others. */
  readonly waitMs: number;
  /** Only tell what would be done. */
  readonly dryRun: boolean;
  readonly onProgress?: ((phase: PrunePhase, done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface PruneOutcome {
  /** `deferred`: snapshots were forgotten, but no pack deleted, because writers were still at work after the wait. */
  readonly kind: 'pruned' | 'deferred' | 'dry-run';
  readonly forgotten: readonly SnapshotId[];
  readonly keptCount: number;
  /** Workspaces left alone because a control plane manages them. */
  readonly managed: readonly WorkspaceId[];
  readonly packCount: number;
  readonly packBytes: number;
  /** Packs deleted, or that would be. */
  readonly deletedPacks: number;
  readonly deletedBytes: number;
  /** Sessions that kept it from deleting. */
  readonly waitedFor: readonly SnapshotId[];
  readonly revoked: readonly SnapshotId[];
}

/**
 * Forgets snapshots by a policy, then deletes the packs that no manifest names. Safe beside any number of writers and
 * other prunes, and when it is killed at any point: FORMAT.md, "Sessions and deletion", says why. The next prune finishes
 * what is left.
 * @throws {DumontError} CORRUPT when a manifest cannot be read, and whatever the store throws
 */
export async function prune(options: PruneOptions): Promise<PruneOutcome> {
  const run = new Prune(options);
  const forgetting = await run.forget();
  const collection = await run.collect(forgetting.forgottenKeys);
  const { forgotten, keptCount, managed } = forgetting;
  return { forgotten, keptCount, managed, ...collection };
}

type Collection = Omit<PruneOutcome, 'forgotten' | 'keptCount' | 'managed'>;

interface Garbage {
  readonly packIds: readonly string[];
  readonly sizeOf: (packId: string) => number;
  readonly packCount: number;
  readonly packBytes: number;
}

class Prune {
  readonly #options: PruneOptions;
  readonly #references: References;

  constructor(options: PruneOptions) {
    this.#options = options;
    this.#references = new References(options.store, options.readPacks);
  }

  /** Deletes manifests that the policy does not keep and those that are void. */
  async forget() {
    const { store, policy, dryRun, signal } = this.#options;
    const all = await listManifests(store, { signal });
    const revocations = await readRevocations(store, { signal });
    const voided = all.filter(({ snapshotId }) => isVoid(revocations, snapshotId));
    const { candidates, keptCount, managed } = this.#choose(all, revocations, policy);
    const doomed = [...voided, ...candidates];
    if (!dryRun) {
      const sessions = await listSessions(store, { signal });
      let done = 0;
      await forEachBounded(doomed, MAX_DELETES, async ({ snapshotId, manifestKey }) => {
        throwIfAborted(signal);
        // The session ends with its manifest. A writer that is not yet sure of having stored it must not store it again.
        if (sessions.has(snapshotId)) await putRevocation(store, { snapshotId, mark: 'void' }, { signal });
        await store.delete(manifestKey, { signal });
        await store.delete(sessionKey(snapshotId), { signal });
        done += 1;
        this.#progress('forget', done, doomed.length);
      });
    }
    const forgottenKeys: ReadonlySet<string> = new Set(doomed.map(({ manifestKey }) => manifestKey));
    return { forgotten: candidates.map(({ snapshotId }) => snapshotId), forgottenKeys, keptCount, managed };
  }

  #choose(all: readonly ListedManifest[], revocations: Revocations, policy: RetentionPolicy) {
    const candidates: ListedManifest[] = [];
    const managed: WorkspaceId[] = [];
    let keptCount = 0;
    const counted = all.filter(({ snapshotId }) => !isVoid(revocations, snapshotId));
    for (const [workspaceId, found] of Map.groupBy(counted, (one) => one.workspaceId)) {
      const isManaged = found.some(({ epoch }) => epoch >= FIRST_MANAGED_EPOCH);
      if (isManaged) managed.push(workspaceId);
      const isMeant = this.#options.workspaceId === undefined || this.#options.workspaceId === workspaceId;
      const marked = found.map((one) => Object.assign({ isDoubtful: revocations.has(one.snapshotId) }, one));
      const { kept, forgotten } = splitByPolicy(marked, isManaged || !isMeant ? {} : policy);
      candidates.push(...forgotten);
      keptCount += kept.length;
    }
    return { candidates, keptCount, managed };
  }

  async collect(forgottenKeys: ReadonlySet<string>): Promise<Collection> {
    const { store, dryRun, signal } = this.#options;
    const garbage = await this.#findGarbage(forgottenKeys);
    const { packIds, sizeOf, packCount, packBytes } = garbage;
    const outcome = { packCount, packBytes, deletedPacks: 0, deletedBytes: 0, waitedFor: [], revoked: [] };
    const total = (ids: readonly string[]) => ids.reduce((sum, packId) => sum + sizeOf(packId), 0);
    if (dryRun) return { ...outcome, kind: 'dry-run', deletedPacks: packIds.length, deletedBytes: total(packIds) };
    if (packIds.length === 0) return { ...outcome, kind: 'pruned' };

    await putPlan(store, { pruneId: this.#options.pruneId, packIds }, { signal });
    const { waitedFor, revoked } = await this.#awaitWriters().catch(async (error: unknown) => {
      await this.#withdrawPlan();
      throw error;
    });
    if (waitedFor.length > 0) {
      await store.delete(planKey(this.#options.pruneId), { signal });
      return { ...outcome, kind: 'deferred', waitedFor };
    }
    const dead = await this.#judge(packIds, revoked);
    await dropPacksFromIndex(store, new Set(dead), { signal });
    let done = 0;
    await forEachBounded(dead, MAX_DELETES, async (packId) => {
      throwIfAborted(signal);
      await store.delete(packKey(packId), { signal });
      done += 1;
      this.#progress('delete', done, dead.length);
    });
    await this.#cleanUp(revoked);
    return { ...outcome, kind: 'pruned', deletedPacks: dead.length, deletedBytes: total(dead), revoked };
  }

  /** Packs that no manifest names, but for those that writers at work are likely to name soon. */
  async #findGarbage(forgottenKeys: ReadonlySet<string>): Promise<Garbage> {
    const { store, dryRun, signal } = this.#options;
    const workingSinceMs = await this.#workingSinceMs();
    // Before the packs: every pack of a plan was stored when the plan was.
    const plans = await readPlans(store, { signal });
    const packs = await listPacks(store, { signal });
    const onRead = (done: number, total: number) => this.#progress('references', done, total);
    const references = await this.#references.read({ signal, onRead, except: dryRun ? forgottenKeys : undefined });
    for (const { pruneId, packIds } of plans) {
      // A plan none of whose packs is left can do no harm, even if its prune still runs.
      const isSpent = !packIds.some((packId) => packs.has(packId));
      if (isSpent && !dryRun) await store.delete(planKey(pruneId), { signal });
    }
    const unused = [...packs].filter(
      ([packId, { modifiedMs }]) => modifiedMs < workingSinceMs && !references.has(packId),
    );
    let packBytes = 0;
    for (const { sizeBytes } of packs.values()) packBytes += sizeBytes;
    return {
      packIds: unused.slice(0, MAX_PLANNED_PACKS).map(([packId]) => packId),
      sizeOf: (packId) => packs.get(packId)?.sizeBytes ?? 0,
      packCount: packs.size,
      packBytes,
    };
  }

  /**
   * When the first of the writers at work began, by the store's clock; drops the sessions that have ended. It would be safe
   * to plan newer packs too, but their writers would have to be waited for, or lose what they have uploaded.
   */
  async #workingSinceMs(): Promise<number> {
    const { store, dryRun, signal } = this.#options;
    const sessions = await listSessions(store, { signal });
    const { stored, refused, revocations } = await this.#endedAmong(sessions.keys());
    const isOld = (snapshotId: SnapshotId) => (sessions.get(snapshotId)?.modifiedMs ?? 0) < this.#liveSinceMs();
    let leastMs = Infinity;
    for (const [snapshotId, { modifiedMs }] of sessions) {
      const isEnded = stored.has(snapshotId) || refused.has(snapshotId);
      if (!isEnded && !isOld(snapshotId)) leastMs = Math.min(leastMs, modifiedMs);
      // A writer that has stored its manifest may be about to end its session by itself.
      const isLeft = refused.has(snapshotId) || (stored.has(snapshotId) && isOld(snapshotId));
      if (isLeft && !dryRun) await store.delete(sessionKey(snapshotId), { signal });
    }
    for (const [snapshotId, marks] of revocations) {
      const isLeft = marks.has('withdrawn') && !sessions.has(snapshotId);
      if (isLeft && !dryRun) await store.delete(revocationKey(snapshotId, 'withdrawn'), { signal });
    }
    return leastMs;
  }

  /** Sessions that have made their manifest, and those that will never make one that counts. */
  async #endedAmong(snapshotIds: Iterable<SnapshotId>) {
    const { store, signal } = this.#options;
    const ids = [...snapshotIds];
    const manifests = new Set((await listManifests(store, { signal })).map(({ snapshotId }) => snapshotId));
    const revocations = await readRevocations(store, { signal });
    const isRefused = (snapshotId: SnapshotId) =>
      isVoid(revocations, snapshotId) || revocations.get(snapshotId)?.has('withdrawn') === true;
    const stored: ReadonlySet<SnapshotId> = new Set(ids.filter((snapshotId) => manifests.has(snapshotId)));
    return { stored, refused: new Set(ids.filter(isRefused)), revocations };
  }

  /**
   * Waits for the sessions found now, after the plan is stored, and marks those that are too old.
   * @returns `waitedFor`, in vain; when there is none, those marked
   */
  async #awaitWriters() {
    const { store, clock, waitMs, signal } = this.#options;
    const sessions = await listSessions(store, { signal });
    const untilMs = clock.monotonicMs() + waitMs;
    let open: readonly SnapshotId[] = [...sessions.keys()];
    for (;;) {
      const present = await listSessions(store, { signal });
      open = open.filter((snapshotId) => present.has(snapshotId));
      const { stored, refused } = await this.#endedAmong(open);
      open = open.filter((snapshotId) => !stored.has(snapshotId) && !refused.has(snapshotId));
      const live = open.filter((snapshotId) => (sessions.get(snapshotId)?.modifiedMs ?? 0) >= this.#liveSinceMs());
      this.#progress('waiting', sessions.size - live.length, sessions.size);
      if (live.length === 0) break;
      if (clock.monotonicMs() >= untilMs) return { waitedFor: live, revoked: [] };
      await clock.sleep(POLL_MS, signal);
    }
    for (const snapshotId of open) await putRevocation(store, { snapshotId, mark: this.#options.pruneId }, { signal });
    return { waitedFor: [], revoked: open };
  }

  /** As nothing was deleted, writers need not avoid what it names; if it stays, only work is lost. */
  async #withdrawPlan(): Promise<void> {
    await this.#options.store.delete(planKey(this.#options.pruneId)).catch(() => undefined);
  }

  /** Sessions announced since are waited for. */
  #liveSinceMs(): number {
    return this.#options.clock.nowMs() - this.#options.revokeOlderThanMs;
  }

  /** The packs of the plan that may go, for good. From the first deletion on, no other manifest counts. */
  async #judge(packIds: readonly string[], revoked: readonly SnapshotId[]): Promise<readonly string[]> {
    const { store, signal } = this.#options;
    const references = await this.#references.read({ signal });
    const stored = new Set(references.manifests.map(({ snapshotId }) => snapshotId));
    for (const snapshotId of revoked) {
      if (!stored.has(snapshotId)) await putRevocation(store, { snapshotId, mark: 'void' }, { signal });
    }
    return packIds.filter((packId) => !references.has(packId));
  }

  /** Marks of this prune have served: a session has its manifest, or is void for good. */
  async #cleanUp(revoked: readonly SnapshotId[]): Promise<void> {
    const { store, signal } = this.#options;
    for (const snapshotId of revoked) {
      await store.delete(sessionKey(snapshotId), { signal });
      await store.delete(revocationKey(snapshotId, this.#options.pruneId), { signal });
    }
    await store.delete(planKey(this.#options.pruneId), { signal });
  }

  #progress(phase: PrunePhase, done: number, total: number): void {
    this.#options.onProgress?.(phase, done, total);
  }
}
