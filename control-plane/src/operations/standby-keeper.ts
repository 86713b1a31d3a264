import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { wantsStandby } from '@dumont/shared/model/policy.ts';
import { type BackoffPolicy, backoffMs } from '@dumont/shared/util/backoff.ts';
import { releaseInstance } from '../provisioning/ledger-renter.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { applyInstanceEvent, findInstance } from '../store/instances.ts';
import { dropStandby, listStandbyWorkspaces } from '../store/standbys.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { moverOf } from '../store/workspaces.ts';
import type { StandbySync } from '../workspaces/standby-sync.ts';
import type { OperationParts } from './operation-parts.ts';
import type { OperationRunner } from './runner.ts';
import { startStandby } from './start.ts';

const PERIOD_MS = 1_000;
/** A standby without contact for this long is replaced: an agent that restarts is back sooner. */
const LOST_AFTER_MS = 15_000;
/** After a search that found none, longer each time: markets change in minutes, and each search is a line of history. */
const SEARCH_PAUSE: BackoffPolicy = { baseMs: 30_000, capMs: 900_000 };

const LOST = 'it was lost';

interface Kept {
  /** The pair both ends were told of last, and where the standby is reached. */
  toldKey: string;
  /** Monotonic: when the standby was last heard; null before that. */
  heardAtMs: number | null;
  /** Rounds in which nothing was heard of it. Not a time: while we slept it could not be heard. */
  silentRounds: number;
  standbyId: InstanceId | null;
  /** Monotonic: no search before. */
  searchAfterMs: number;
  /** Since there was a standby. */
  searches: number;
}

/**
 * Keeps one standby for each workspace whose policy asks for it: has one found, tells both ends of each other, replaces
 * one that is lost, gives back one that is not wanted. A standby's death moves nothing. Everything it does is decided
 * anew in each round from the database and who is connected, so it may be killed at any point.
 */
export class StandbyKeeper implements AsyncDisposable {
  readonly #parts: OperationParts;
  readonly #runner: Pick<OperationRunner, 'nudge'>;
  readonly #sync: StandbySync;
  readonly #onRelease: () => void;
  readonly #stop = new AbortController();
  /** Of the workspaces of the last round. */
  #kept = new Map<WorkspaceId, Kept>();
  #loop: Promise<void> | undefined;

  constructor(
    parts: OperationParts,
    links: {
      readonly runner: Pick<OperationRunner, 'nudge'>;
      readonly sync: StandbySync;
      /** Lets the sweeper act on a release at once. */
      readonly onRelease: () => void;
    },
  ) {
    this.#parts = parts;
    this.#runner = links.runner;
    this.#sync = links.sync;
    this.#onRelease = links.onRelease;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** One round; what `start` repeats. */
  async round(): Promise<void> {
    const workspaces = await listStandbyWorkspaces(this.#parts.db);
    const kept = new Map<WorkspaceId, Kept>();
    for (const workspace of workspaces) {
      const nowMs = this.#parts.clock.monotonicMs();
      const unheard = { heardAtMs: null, silentRounds: 0, standbyId: null };
      const fresh = { ...unheard, toldKey: '', searchAfterMs: nowMs, searches: 0 };
      kept.set(workspace.id, this.#kept.get(workspace.id) ?? fresh);
    }
    this.#kept = kept;
    for (const workspace of workspaces) await this.#tend(workspace);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#parts;
    while (!this.#stop.signal.aborted) {
      try {
        await this.round();
      } catch (error) {
        log.warn({ event: 'standby.round', err: error }, 'could not look after standbys, will try again');
      }
      await clock.sleep(PERIOD_MS, this.#stop.signal).catch(() => {});
    }
  }

  async #tend(workspace: WorkspaceRow): Promise<void> {
    const kept = this.#kept.get(workspace.id);
    if (kept === undefined) return;
    const { standbyInstanceId } = workspace;
    if (standbyInstanceId === null) {
      await this.#seek(workspace, kept);
      return;
    }
    const instance = await findInstance(this.#parts.db, standbyInstanceId);
    const reason = await this.#reasonToDrop(workspace, instance, kept);
    if (reason === null) await this.#introduce(workspace, standbyInstanceId, kept);
    else await this.#drop(workspace, standbyInstanceId, reason);
  }

  async #seek(workspace: WorkspaceRow, kept: Kept): Promise<void> {
    const { clock, random } = this.#parts;
    const { policy, primaryInstanceId } = workspace;
    if (!wantsStandby(policy) || primaryInstanceId === null) return;
    // A standby that serves gets none of its own: users are on their way to another machine, which gets one then.
    if ((await findInstance(this.#parts.db, primaryInstanceId))?.role === 'standby') return;
    // The one before was found, and is gone since: the pause is for searches that find none.
    if (kept.standbyId !== null)
      Object.assign(kept, { standbyId: null, searchAfterMs: clock.monotonicMs(), searches: 0 });
    if (clock.monotonicMs() < kept.searchAfterMs) return;
    kept.searchAfterMs = clock.monotonicMs() + SEARCH_PAUSE.baseMs + backoffMs(kept.searches, SEARCH_PAUSE, random);
    kept.searches += 1;
    if ((await startStandby(this.#parts, workspace.id)) !== undefined) this.#runner.nudge();
  }

  async #reasonToDrop(workspace: WorkspaceRow, instance: InstanceRow | undefined, kept: Kept): Promise<string | null> {
    const { db } = this.#parts;
    if (instance === undefined || instance.state !== 'ready') return `it is ${instance?.state ?? 'unknown'}`;
    if (this.#isLost(instance.id, kept)) return LOST;
    // While the workspace is being moved its next primary may go on with this standby.
    if ((await moverOf(db, workspace.id)) !== undefined) return null;
    if (!wantsStandby(workspace.policy)) return 'the policy asks for none';
    return workspace.primaryInstanceId === null ? 'the workspace has no machine any more' : null;
  }

  #isLost(instanceId: InstanceId, kept: Kept): boolean {
    const { hub, limits } = this.#parts;
    if (kept.standbyId !== instanceId) Object.assign(kept, { standbyId: instanceId, heardAtMs: null, silentRounds: 0 });
    const heardAtMs = hub.heardAtMonotonicMs(instanceId);
    const isHeard = hub.isConnected(instanceId) && heardAtMs !== null && heardAtMs !== kept.heardAtMs;
    kept.silentRounds = isHeard ? 0 : kept.silentRounds + 1;
    kept.heardAtMs = heardAtMs;
    kept.searches = 0;
    return kept.silentRounds * PERIOD_MS > Math.max(LOST_AFTER_MS, limits.contactLossMs);
  }

  async #drop(workspace: WorkspaceRow, instanceId: InstanceId, reason: string): Promise<void> {
    const { db, clock } = this.#parts;
    const atMs = clock.nowMs();
    const isDropped = await db.transaction(async (tx) => {
      if (!(await dropStandby(tx, workspace.id, instanceId))) return false;
      if (reason === LOST) await applyInstanceEvent(tx, instanceId, 'lost', atMs);
      const workspaceId = workspace.id;
      await appendEvent(tx, { type: 'standby.dropped', atMs, workspaceId, instanceId, data: { reason } });
      return true;
    });
    if (!isDropped) return;
    const kept = this.#kept.get(workspace.id);
    if (kept !== undefined) kept.searchAfterMs = clock.monotonicMs();
    // After a crash here the sweeper finds it forgotten.
    await releaseInstance(this.#parts, instanceId, `standby given back: ${reason}`);
    this.#onRelease();
    if (workspace.primaryInstanceId !== null) await this.#parts.wardship.inform(workspace.primaryInstanceId);
  }

  /**
   * Tells both ends of each other, again whenever one of them, the epoch or the address changed, and when a move begins or
   * ends: while it lasts the standby serves chunks to the replacement.
   */
  async #introduce(workspace: WorkspaceRow, standbyId: InstanceId, kept: Kept): Promise<void> {
    const { primaryInstanceId, epoch } = workspace;
    if (primaryInstanceId === null) return;
    const address = await this.#sync.locate(standbyId);
    if (address === null) return;
    const movedBy = await moverOf(this.#parts.db, workspace.id);
    const key = `${primaryInstanceId} ${standbyId} ${epoch} ${address.host}:${address.port} ${movedBy ?? ''}`;
    if (key === kept.toldKey) return;
    const { wardship } = this.#parts;
    await wardship.inform(standbyId);
    await wardship.inform(primaryInstanceId);
    kept.toldKey = key;
  }
}
