import { manifestKey, packKey, parseManifestKey, parsePackKey, revocationKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom, type Random } from '@dumont/shared/util/random.ts';
import { prune } from '@dumont/agent/catalogue/prune.ts';
import { WriterSession } from '@dumont/agent/catalogue/writer-session.ts';
import { listSnapshots } from '@dumont/agent/snapshot/catalogue.ts';
import { forEachBounded } from '@dumont/agent/storage/for-each-bounded.ts';
import type { ObjectInfo, ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { RetryStore } from '@dumont/agent/storage/retry-store.ts';
import { ScheduledStore, type Actor } from './scheduled-store.ts';

/** A step of the protocol that a mutant leaves out, to show that the simulation would notice. */
export const MUTATIONS = [
  'writer announces nothing',
  'writer uploads before it is announced',
  'writer reads no plans',
  'writer does not look for its parent again',
  'writer does not ask whether it was revoked',
  'prune makes no plan',
  'prune waits for nobody',
  'prune does not read the manifests again',
  'prune marks nobody',
  'prune voids nobody',
  'prune removes plans of others',
] as const;
export type Mutation = (typeof MUTATIONS)[number];

const WORKSPACE_ID = 'ws_00000000000000000000' as WorkspaceId;
const CHUNKS = 14;
const KILL_SHARE = 0.006;

interface ModelManifest {
  readonly packs: readonly string[];
  /** Chunk to pack. */
  readonly chunks: Readonly<Record<string, string>>;
}

/** A snapshot as a long-lived writer keeps it in memory. */
interface Held {
  readonly key: string;
  readonly manifest: ModelManifest;
}

export interface PruneWorldOptions {
  readonly seed: number;
  readonly requests: number;
  readonly mutation?: Mutation | undefined;
}

/** What happened in one run; `violation` is null when nothing was lost. */
export interface PruneWorldResult {
  readonly violation: string | null;
  readonly commits: number;
  readonly aborts: number;
  readonly prunes: number;
  readonly deletedPacks: number;
}

class Violation extends Error {}

/**
 * Two writers and two prunes on one store, killed and started again at any point: real sessions and prunes, model
 * snapshots whose "files" are subsets of a few chunks. After every request every snapshot that counts must be whole.
 */
export async function runPruneWorld(options: PruneWorldOptions): Promise<PruneWorldResult> {
  const world = new PruneWorld(options);
  try {
    await world.run();
    return world.result(null);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return world.result(error.message);
  }
}

class PruneWorld {
  readonly #options: PruneWorldOptions;
  readonly #random: Random;
  readonly #store: ScheduledStore;
  readonly #committed = new Map<SnapshotId, string>();
  readonly #forgotten = new Set<SnapshotId>();
  /** Every pack ever uploaded with its chunks: what index objects may tell, out of date as they are. */
  readonly #uploaded = new Map<string, readonly string[]>();
  /** Half of the runs never forget a committed snapshot: then all of them must be there. */
  readonly #forgets: boolean;
  #failure: unknown = null;
  #seq = 0;
  #counts = { aborts: 0, prunes: 0, deletedPacks: 0 };

  constructor(options: PruneWorldOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#forgets = options.seed % 2 === 0;
    this.#store = new ScheduledStore(seededRandom(options.seed + 1), (change) => this.#afterChange(change));
  }

  result(violation: string | null): PruneWorldResult {
    return { violation, commits: this.#committed.size, ...this.#counts };
  }

  async run(): Promise<void> {
    const roles = [0, 1, 2, 3].map((index) => ({ index, actor: this.#start(index) }));
    while (this.#store.requestCount < this.#options.requests) {
      await this.#store.step();
      if (this.#failure !== null) throw this.#failure;
      for (const role of roles) {
        if (role.actor.isAlive && this.#random.next() >= KILL_SHARE) continue;
        this.#store.kill(role.actor);
        role.actor = this.#start(role.index);
      }
    }
    for (const { actor } of roles) this.#store.kill(actor);
    while (await this.#store.step());
    if (this.#failure !== null) throw this.#failure;
    await this.#finalPrune();
  }

  /** With nobody else at work one prune leaves nothing behind that is not needed. */
  async #finalPrune(): Promise<void> {
    if (this.#options.mutation !== undefined) return;
    const actor: Actor = { name: 'last', isAlive: true };
    const end = { isReached: false };
    // Whatever its clock says: no session is waited for.
    this.#pruneOnce(actor, { keepLast: undefined, revokeOlderThanMs: -10_000 })
      .catch((error: unknown) => (this.#failure = error))
      .finally(() => (end.isReached = true));
    while (!end.isReached) await this.#store.step();
    if (this.#failure !== null) throw this.#failure;
    const named = new Set(this.#visible().flatMap(({ manifest }) => manifest.packs));
    const left = this.#store.keys('packs/').filter((key) => !named.has(parsePackKey(key) ?? ''));
    if (left.length > 0) throw new Violation(`${left.length} packs are left that nothing names`);
    if (this.#store.keys('sessions/').length > 0 && this.#store.keys('packs/').length === 0) {
      throw new Violation('sessions are left');
    }
  }

  #start(index: number): Actor {
    const actor: Actor = { name: index < 2 ? `writer ${index}` : `prune ${index}`, isAlive: true };
    const life = index < 2 ? this.#liveAsWriter(actor) : this.#liveAsPruner(actor);
    life.catch((error: unknown) => {
      this.#failure ??= error;
    });
    return actor;
  }

  #viewOf(actor: Actor): ObjectStore {
    const clock = this.#store.clockOf(actor);
    const view = mutated(this.#store.viewOf(actor), this.#options.mutation, actor.name.startsWith('writer'));
    return new RetryStore(view, { clock, random: this.#random });
  }

  async #liveAsWriter(actor: Actor): Promise<void> {
    const store = this.#viewOf(actor);
    let held: Held | null = null;
    for (;;) {
      try {
        held = await this.#takeSnapshot(actor, store, held);
      } catch (error) {
        if (!isDumontError(error)) throw error;
        this.#counts.aborts += 1;
        if (this.#random.next() < 0.5) held = null;
      }
    }
  }

  async #takeSnapshot(actor: Actor, store: ObjectStore, memory: Held | null): Promise<Held | null> {
    const clock = this.#store.clockOf(actor);
    // Writers rest, and looking through a folder takes its time.
    if (memory !== null && this.#random.next() < 0.2) await clock.sleep(this.#random.next() * 40_000);
    const parent = memory ?? (await this.#findParent(store));
    if (this.#random.next() < 0.2) await clock.sleep(this.#random.next() * 40_000);
    const snapshotId = `sn_${this.#hex(20)}` as SnapshotId;
    await using session = new WriterSession({
      store,
      clock,
      snapshotId,
      workspaceId: WORKSPACE_ID,
      writerId: 'model',
      tool: 'model/1',
    });
    const guarded = this.#options.mutation === 'writer uploads before it is announced' ? store : session.guard(store);
    const known = new Map(Object.entries(parent?.manifest.chunks ?? {}));
    const isIndexed = parent === null || this.#random.next() < 0.2;
    if (isIndexed) {
      const sound = await session.listSoundPacks();
      for (const [packId, chunks] of this.#uploaded) {
        if (sound.has(packId)) for (const chunk of chunks) if (!known.has(chunk)) known.set(chunk, packId);
      }
    }
    const wanted = Array.from({ length: CHUNKS }, (_, chunk) => `c${chunk}`).filter(() => this.#random.next() < 0.5);
    const chunks = new Map<string, string>();
    let avoid: ReadonlySet<string> = new Set();
    for (;;) {
      await this.#upload(guarded, { wanted, known, avoid, chunks });
      if (this.#random.next() < 0.2) await clock.sleep(this.#random.next() * 20_000);
      const own = new Set(chunks.values());
      const packIds = [...new Set(wanted.map((chunk) => must(chunks.get(chunk) ?? known.get(chunk), 'it is stored')))];
      const manifestKeys = parent === null ? [] : [parent.key];
      const soundness = await session.check({ packIds, vouched: [own, new Set(known.values())], manifestKeys });
      if (soundness.kind === 'forgotten') return null;
      if (soundness.kind === 'sound')
        return await this.#commit(store, session, { snapshotId, wanted, known, chunks, packIds });
      avoid = soundness.packIds;
    }
  }

  async #upload(
    store: ObjectStore,
    work: {
      readonly wanted: readonly string[];
      readonly known: ReadonlyMap<string, string>;
      readonly avoid: ReadonlySet<string>;
      readonly chunks: Map<string, string>;
    },
  ): Promise<void> {
    const { wanted, known, avoid, chunks } = work;
    const isNew = (chunk: string) => !chunks.has(chunk) && (!known.has(chunk) || avoid.has(known.get(chunk) ?? ''));
    const fresh = wanted.filter(isNew);
    const packs = Array.from({ length: Math.ceil(fresh.length / 3) }, (_, at) => fresh.slice(at * 3, at * 3 + 3));
    await forEachBounded(packs, 2, async (content) => {
      const packId = this.#hex(32);
      await store.put(packKey(packId), bytesOf(content), { ifAbsent: true });
      this.#uploaded.set(packId, content);
      for (const chunk of content) chunks.set(chunk, packId);
    });
  }

  async #commit(
    store: ObjectStore,
    session: WriterSession,
    facts: {
      readonly snapshotId: SnapshotId;
      readonly wanted: readonly string[];
      readonly known: ReadonlyMap<string, string>;
      readonly chunks: ReadonlyMap<string, string>;
      readonly packIds: readonly string[];
    },
  ): Promise<Held> {
    const { snapshotId, wanted, known, chunks, packIds } = facts;
    const located = wanted.map((chunk) => [chunk, chunks.get(chunk) ?? known.get(chunk) ?? '']);
    const manifest: ModelManifest = { packs: packIds, chunks: Object.fromEntries(located) };
    this.#seq += 1;
    const name = { workspaceId: WORKSPACE_ID, epoch: 0, seq: this.#seq, snapshotId, writerId: 'model' };
    const key = manifestKey(name);
    await session.commit(() => store.put(key, bytesOf(manifest), { ifAbsent: true }));
    this.#committed.set(snapshotId, key);
    this.#checkCommitted(snapshotId, key);
    return { key, manifest };
  }

  async #findParent(store: ObjectStore): Promise<Held | null> {
    const newest = (await listSnapshots(store, WORKSPACE_ID)).at(-1);
    if (newest === undefined) return null;
    const manifest = manifestOf(await store.get(newest.manifestKey));
    return { key: newest.manifestKey, manifest };
  }

  async #liveAsPruner(actor: Actor): Promise<void> {
    for (;;) {
      const keepLast = this.#forgets ? 1 + Math.floor(this.#random.next() * 3) : undefined;
      const revokeOlderThanMs = this.#random.next() < 0.5 ? 2_000 : 20_000;
      try {
        await this.#pruneOnce(actor, { keepLast, revokeOlderThanMs });
      } catch (error) {
        // CORRUPT would mean that a manifest that counts cannot be read.
        if (!isDumontError(error, 'UNAVAILABLE')) throw error;
      }
    }
  }

  async #pruneOnce(
    actor: Actor,
    { keepLast, revokeOlderThanMs }: { readonly keepLast: number | undefined; readonly revokeOlderThanMs: number },
  ): Promise<void> {
    const store = this.#viewOf(actor);
    const outcome = await prune({
      store,
      pruneId: this.#hex(32),
      clock: this.#store.clockOf(actor, Math.floor(this.#random.next() * 4_000) - 2_000),
      readPacks: async ({ manifestKey: key }) => manifestOf(await store.get(key)).packs,
      policy: { keepLast },
      revokeOlderThanMs,
      waitMs: 3_000,
      dryRun: false,
    });
    this.#counts.prunes += 1;
    this.#counts.deletedPacks += outcome.deletedPacks;
  }

  #hex(digits: number): string {
    return Array.from({ length: digits }, () => Math.floor(this.#random.next() * 16).toString(16)).join('');
  }

  /** The manifests that count now, and what they hold. */
  #visible(): readonly { readonly key: string; readonly manifest: ModelManifest }[] {
    return this.#store.keys('manifests/').flatMap((key) => {
      const name = must(parseManifestKey(key), 'only manifests are put there');
      if (this.#store.objects.has(revocationKey(name.snapshotId, 'void'))) return [];
      return [{ key, manifest: manifestOf(must(this.#store.objects.get(key), 'the key was listed').bytes) }];
    });
  }

  #afterChange({
    type,
    key,
    actor,
  }: {
    readonly type: 'put' | 'delete';
    readonly key: string;
    readonly actor: string;
  }) {
    const isManifest = key.startsWith('manifests/');
    if (type === 'delete' && isManifest && this.#forgets) {
      this.#forgotten.add(must(parseManifestKey(key), 'it was listed').snapshotId);
    }
    if (type === 'delete' && !isManifest && !key.startsWith('packs/')) return;
    for (const { key: found, manifest } of this.#visible()) {
      const missing = manifest.packs.find((packId) => !this.#store.objects.has(packKey(packId)));
      if (missing !== undefined)
        this.#fail(`${found} needs ${missing}, which is gone after ${type} ${key} by ${actor}`);
    }
    if (this.#forgets) return;
    for (const [snapshotId, committedKey] of this.#committed) this.#checkCommitted(snapshotId, committedKey);
  }

  /** A committed snapshot is there, counts and is whole, unless it was forgotten. */
  #checkCommitted(snapshotId: SnapshotId, key: string): void {
    if (this.#forgets) return;
    if (!this.#store.objects.has(key)) this.#fail(`the committed ${key} is gone`);
    if (this.#store.objects.has(revocationKey(snapshotId, 'void'))) this.#fail(`the committed ${key} is void`);
  }

  #fail(message: string): never {
    const violation = new Violation(message);
    this.#failure ??= violation;
    throw violation;
  }
}

function bytesOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function manifestOf(bytes: Uint8Array): ModelManifest {
  return JSON.parse(new TextDecoder().decode(bytes)) as ModelManifest;
}

/** The store as a program sees it that leaves out one step. */
function mutated(store: ObjectStore, mutation: Mutation | undefined, isWriter: boolean): ObjectStore {
  const own = new Set<string>();
  let isPlanned = false;
  let before: readonly ObjectInfo[] = [];
  const view: ObjectStore = {
    ...store,
    put: async (key, bytes, options) => {
      if (key.startsWith('sessions/')) own.add(key.slice('sessions/'.length));
      if (key.startsWith('prunes/')) isPlanned = true;
      const isDropped =
        (mutation === 'writer announces nothing' && key.startsWith('sessions/')) ||
        (mutation === 'prune makes no plan' && key.startsWith('prunes/')) ||
        (mutation === 'prune marks nobody' && !isWriter && /^revoked\/\w+\/[0-9a-f]{32}$/.test(key)) ||
        (mutation === 'prune voids nobody' && !isWriter && key.endsWith('/void'));
      return isDropped ? 'stored' : store.put(key, bytes, options);
    },
    stat: async (key) => {
      const found = await store.stat(key);
      return isWriter && mutation === 'writer does not look for its parent again' ? { sizeBytes: 1 } : found;
    },
    list: async function* (prefix) {
      const isOwn = own.has(prefix.split('/')[1] ?? '');
      const isHidden =
        (isWriter && mutation === 'writer reads no plans' && prefix === 'prunes/') ||
        (isWriter && mutation === 'writer does not ask whether it was revoked' && isOwn) ||
        (!isWriter && mutation === 'prune waits for nobody' && prefix === 'sessions/' && isPlanned);
      if (isHidden) return;
      if (!isWriter && mutation === 'prune does not read the manifests again' && prefix === 'manifests/') {
        if (!isPlanned) before = await collect(store, prefix);
        yield* before;
        return;
      }
      if (!isWriter && mutation === 'prune removes plans of others' && prefix === 'prunes/' && !isPlanned) {
        for (const { key } of await collect(store, prefix)) await store.delete(key);
      }
      yield* store.list(prefix);
    },
  };
  return view;
}

async function collect(store: ObjectStore, prefix: string): Promise<readonly ObjectInfo[]> {
  const found: ObjectInfo[] = [];
  for await (const info of store.list(prefix)) found.push(info);
  return found;
}
