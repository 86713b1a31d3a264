import { PACKS_PREFIX, packKey, parseManifestKey, parsePackKey, sessionKey } from '@dumont/shared/format/layout.ts';
import type { SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import type { ObjectStore, PutOptions } from '../storage/object-store.ts';
import { readPlans } from './plans.ts';
import { isVoid, putRevocation, readRevocations } from './revocations.ts';

export interface WriterSessionOptions {
  readonly store: ObjectStore;
  /** Of the snapshot being made; fresh. */
  readonly snapshotId: SnapshotId;
  readonly workspaceId: WorkspaceId;
  readonly writerId: string;
  /** `name/version`. */
  readonly tool: string;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

/** What a writer did not write itself and its manifest names all the same. */
export interface Reliance {
  /** Every pack that the manifest and its segments name. */
  readonly packIds: Iterable<string>;
  /** Those that need not be looked for: written in this session, or named by one of the manifests. */
  readonly vouched: readonly ReadonlySet<string>[];
  /** Keys of the manifests that told where chunks lie: as long as they are there, their packs are. */
  readonly manifestKeys: Iterable<string>;
}

/** Packs looked for at once. */
const MAX_LOOKS = 16;

/** `condemned`: packs that must not be named, planned for deletion or gone; `forgotten`: a manifest whose packs may be gone. */
export type Soundness =
  | { readonly kind: 'sound' }
  | { readonly kind: 'condemned'; readonly packIds: ReadonlySet<string> }
  | { readonly kind: 'forgotten'; readonly manifestKeys: readonly string[] };

/**
 * The announcement of one snapshot being made, which keeps prunes from deleting what it writes and relies on. It is
 * stored before the first pack (see {@link guard}), only if there is anything to store; {@link check} before the manifest,
 * {@link commit} with it. Dispose it to withdraw the announcement, unless a manifest may have been stored.
 *
 * Why that is safe stands in FORMAT.md, "Sessions and deletion".
 */
export class WriterSession implements AsyncDisposable {
  readonly #options: WriterSessionOptions;
  #opening: Promise<ReadonlySet<string>> | null = null;
  #manifestBegun = false;

  constructor(options: WriterSessionOptions) {
    this.#options = options;
  }

  /**
   * Announces the writer. Idempotent; a call after a failure throws the same.
   * @returns packs that prunes are about to delete: not to be relied on
   */
  open(): Promise<ReadonlySet<string>> {
    this.#opening ??= this.#announce();
    return this.#opening;
  }

  /** The store, whose objects are put only once the session is announced. */
  guard(store: ObjectStore): ObjectStore {
    return {
      put: async (key: string, bytes: Uint8Array, options?: PutOptions) => {
        await this.open();
        return store.put(key, bytes, options);
      },
      get: (key, options) => store.get(key, options),
      stat: (key, options) => store.stat(key, options),
      list: (prefix, options) => store.list(prefix, options),
      delete: (key, options) => store.delete(key, options),
    };
  }

  /**
   * The packs the store holds and nobody is about to delete. What index objects tell may be relied on for these alone.
   */
  async listSoundPacks(): Promise<ReadonlySet<string>> {
    const { store, signal } = this.#options;
    const condemned = await this.open();
    const found = new Set<string>();
    for await (const { key } of store.list(PACKS_PREFIX, { signal })) {
      const packId = parsePackKey(key);
      if (packId !== null && !condemned.has(packId)) found.add(packId);
    }
    return found;
  }

  /**
   * Whether what was learned before the session was announced still holds. Once it does it will until the session ends.
   */
  async check({ packIds, manifestKeys, vouched }: Reliance): Promise<Soundness> {
    const condemned = await this.open();
    const needed = [...packIds];
    const unsound = new Set(needed.filter((packId) => condemned.has(packId)));
    // Known from a snapshot that may be forgotten by now. One that is there, and in no plan, stays.
    const doubtful = needed.filter((packId) => !vouched.some((some) => some.has(packId)));
    await forEachBounded(doubtful, MAX_LOOKS, async (packId) => {
      const { store, signal } = this.#options;
      if ((await store.stat(packKey(packId), { signal })) === null) unsound.add(packId);
    });
    if (unsound.size > 0) return { kind: 'condemned', packIds: unsound };
    const keys = [...manifestKeys];
    const counts = await Promise.all(keys.map((key) => this.#counts(key)));
    const forgotten = keys.filter((_, index) => counts[index] !== true);
    return forgotten.length === 0 ? { kind: 'sound' } : { kind: 'forgotten', manifestKeys: forgotten };
  }

  /**
   * Stores the manifest by `put` and decides whether the snapshot counts. After it returns no prune deletes what the
   * manifest names.
   * @throws {DumontError} ABORTED, retryable, when a prune has stopped waiting for this session; what `put` throws
   */
  async commit<Result>(put: () => Promise<Result>): Promise<Result> {
    const { store, snapshotId, signal } = this.#options;
    await this.open();
    // From here on the manifest may reach the store at any time, even when `put` fails.
    this.#manifestBegun = true;
    const result = await put();
    const marks = await readRevocations(store, { snapshotId, signal });
    if (marks.size > 0) {
      throw new DumontError('ABORTED', `a prune did not wait for snapshot ${snapshotId}, which took too long`, {
        retryable: true,
        hint: 'Take the snapshot again: what was uploaded is used where it is still there.',
      });
    }
    await this.#forgetAnnouncement();
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#opening === null || this.#manifestBegun) return;
    try {
      await this.#opening;
    } catch {
      // Whoever called open() got the error; an announcement that may still arrive is revoked by a later prune.
      return;
    }
    const isGone = await this.#forgetAnnouncement();
    if (isGone) return;
    const { store, snapshotId } = this.#options;
    await putRevocation(store, { snapshotId, mark: 'withdrawn' }).catch(ignoreStoreError);
  }

  async #announce(): Promise<ReadonlySet<string>> {
    const { store, snapshotId, workspaceId, writerId, tool, clock, signal } = this.#options;
    const announcement = { workspaceId, writerId, tool, startedAtMs: clock.nowMs() };
    const bytes = new TextEncoder().encode(JSON.stringify(announcement));
    await store.put(sessionKey(snapshotId), bytes, { ifAbsent: true, signal });
    // Only now: a plan that this listing misses was made by a prune that finds the session.
    const plans = await readPlans(store, { signal });
    return new Set(plans.flatMap(({ packIds }) => packIds));
  }

  /** True when the store holds the manifest and it is not void. */
  async #counts(manifestKey: string): Promise<boolean> {
    const { store, signal } = this.#options;
    const name = parseManifestKey(manifestKey);
    if (name === null || (await store.stat(manifestKey, { signal })) === null) return false;
    const { snapshotId } = name;
    return !isVoid(await readRevocations(store, { snapshotId, signal }), snapshotId);
  }

  /** Agents have no right to delete; prunes then do it, because the manifest ends the session. */
  async #forgetAnnouncement(): Promise<boolean> {
    try {
      await this.#options.store.delete(sessionKey(this.#options.snapshotId));
      return true;
    } catch (error) {
      return ignoreStoreError(error);
    }
  }
}

/** Nothing is lost when a session stays: a prune waits for it longer than it would have to. */
function ignoreStoreError(error: unknown): false {
  if (!isDumontError(error)) throw error;
  return false;
}

/** The packs to avoid as a caller's error, where it cannot do without them. */
export function unsoundError(soundness: Exclude<Soundness, { kind: 'sound' }>): DumontError {
  const what =
    soundness.kind === 'condemned'
      ? 'a prune is about to delete packs that it needs'
      : 'the snapshot it builds on was deleted meanwhile';
  return new DumontError('UNAVAILABLE', `the snapshot cannot be finished: ${what}`, {
    retryable: true,
    hint: 'Take it again; if it fails the same way, when the prune has ended.',
  });
}
