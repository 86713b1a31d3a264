import type { Logger } from '@dumont/shared/node/logger.ts';
import type { SnapshotRecord, SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { SnapshotCommit, SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import { type BackoffPolicy, backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { DirtyMark } from '../workspace/dirty-set.ts';
import type { WorkOptions, WorkspaceEngine } from './engine.ts';

/** The first write of a burst is rarely its last: let it settle, so that the first snapshot is not half of it. */
const SETTLE_MS = 250;
const RETRY: BackoffPolicy = { baseMs: 1_000, capMs: 30_000 };
/** A head that moves under us more often than this in a row means that someone else publishes too. */
const MAX_STALE_PARENTS = 5;

/** The watcher, as far as publishing goes. */
interface DirtySource {
  readonly isDirty: boolean;
  readonly sinceMonotonicMs: number | null;
  readonly paths: DirtyMark['paths'];
  take(): DirtyMark | null;
  restore(mark: DirtyMark): void;
}

export interface PublisherOptions {
  readonly engine: Pick<WorkspaceEngine, 'create'>;
  readonly dirty: DirtySource;
  readonly commit: (
    commit: Pick<SnapshotCommit, 'epoch' | 'snapshot'>,
    signal: AbortSignal,
  ) => Promise<SnapshotVerdict['verdict']>;
  /** True while the control plane can be asked; without it nothing new is published. */
  readonly isOnline: () => boolean;
  /** Monotonic time from which on changes may be unsaved that the watcher never saw; null when there are none. */
  readonly unsavedSinceMs: number | null;
  /** Everything written before this wall time is in a committed snapshot. Must not throw. */
  readonly onSaved: (beforeWallMs: number) => void;
  readonly epoch: number;
  readonly head: SnapshotRef | null;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** A snapshot of some files alone. */
interface Part {
  readonly only?: ReadonlySet<string> | undefined;
  readonly signal: AbortSignal;
}

interface Published {
  readonly record: SnapshotRecord | null;
  readonly tornPaths: readonly string[];
}

/**
 * Publishes snapshots of a primary while there is something unsaved: one at a time, at most one per interval, each
 * committed by the control plane before it counts. Ends for good at {@link stop} or when fenced.
 */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #stopping = new AbortController();
  /** Of the snapshot that runs. */
  #run = new AbortController();
  #head: SnapshotRef | null;
  #intervalMs: number;
  #running: Promise<SnapshotRecord | null> | null = null;
  #next: Promise<SnapshotRecord | null> | null = null;
  #takenSinceMs: number | null = null;
  #takenPaths: DirtyMark['paths'] = new Set();
  #unseenSinceMs: number | null;
  #verdict: Promise<unknown> = Promise.resolve();
  #lastStartMs = -Infinity;
  #failures = 0;
  #cancelTimer: (() => void) | null = null;

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#head = options.head;
    this.#unseenSinceMs = options.unsavedSinceMs;
    this.#intervalMs = options.intervalMs;
  }

  /** Says that there may be something to publish: call when the folder becomes dirty and when the link comes online. */
  nudge(): void {
    if (this.#cancelTimer !== null || this.#running !== null || this.#next !== null || this.isStopped) return;
    const { clock, dirty, isOnline } = this.#options;
    if (!dirty.isDirty || !isOnline()) return;
    const dueMs = this.#lastStartMs + this.#waitMs();
    const delayMs = Math.max(dueMs - clock.monotonicMs(), Math.min(SETTLE_MS, this.#intervalMs));
    this.#cancelTimer = clock.after(delayMs, () => {
      this.#cancelTimer = null;
      void this.#publishInBackground();
    });
  }

  setIntervalMs(intervalMs: number): void {
    this.#intervalMs = intervalMs;
  }

  /**
   * Publishes what is unsaved at the time of the call. One that already runs may have passed over it, so callers then
   * share one more after it. Only {@link stop} ends it early.
   * @returns the committed record, null when nothing differs from the head
   * @throws {DumontError} STALE_EPOCH when fenced, STALE_PARENT, ABORTED, and the engine's errors
   */
  publishNow(onProgress: WorkOptions['onProgress'] = () => {}): Promise<SnapshotRecord | null> {
    if (this.#running === null) return this.#start(onProgress);
    this.#next ??= this.#running
      .catch(() => null)
      .then(() => {
        this.#next = null;
        return this.#start(onProgress);
      });
    return this.#next;
  }

  /**
   * Publishes these files alone, at once: what runs is ended. What else is unsaved stays so.
   * @returns the committed record, null when none of them differs from the head
   * @throws as {@link publishNow}; what the signal was aborted with
   */
  async publishOnly(only: ReadonlySet<string>, signal: AbortSignal): Promise<SnapshotRecord | null> {
    while (this.#running !== null || this.#next !== null) await this.yield(0);
    return this.#start(() => {}, { only, signal });
  }

  /** Lets what runs go on for so long, then ends it. Resolves when nothing runs; what it took is unsaved again. */
  async yield(afterMs: number): Promise<void> {
    const reason = new DumontError('ABORTED', 'it would not be done before the machine goes');
    const cancel = this.#options.clock.after(afterMs, () => this.#run.abort(reason));
    try {
      await this.#running?.catch(() => null);
    } finally {
      cancel();
    }
  }

  /** The newest snapshot that was committed here, or the head it began with. */
  get head(): SnapshotRef | null {
    return this.#head;
  }

  /** Monotonic time of the oldest change that is not in a committed snapshot, null when everything is safe. */
  get unsavedSinceMs(): number | null {
    const times = [this.#options.dirty.sinceMonotonicMs, this.#takenSinceMs, this.#unseenSinceMs];
    const sinceMs = Math.min(...times.map((time) => time ?? Infinity));
    return sinceMs === Infinity ? null : sinceMs;
  }

  /** The paths with changes that are not in a committed snapshot. */
  get unsavedPaths(): readonly DirtyMark['paths'][] {
    return this.#unseenSinceMs === null ? [this.#options.dirty.paths, this.#takenPaths] : ['everything'];
  }

  /** Resolves when no uploaded snapshot waits for its verdict; at once while none does. Never rejects. */
  async verdictHeard(): Promise<void> {
    await this.#verdict;
  }

  get isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  /** Aborts what runs and publishes nothing more. Resolves when nothing runs; idempotent. */
  async stop(reason: DumontError): Promise<void> {
    this.#stopping.abort(reason);
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    await this.#running?.catch(() => null);
  }

  #waitMs(): number {
    if (this.#failures === 0) return this.#intervalMs;
    return backoffMs(this.#failures - 1, RETRY, this.#options.random);
  }

  async #publishInBackground(): Promise<void> {
    try {
      await this.publishNow();
    } catch (error) {
      if (this.isStopped) return;
      this.#options.log.warn({ event: 'snapshot-failed', err: toDumontError(error) }, 'a snapshot failed');
    }
  }

  #start(onProgress: WorkOptions['onProgress'], part?: Part): Promise<SnapshotRecord | null> {
    this.#run = new AbortController();
    const signals = [this.#stopping.signal, this.#run.signal, ...(part === undefined ? [] : [part.signal])];
    const running = this.#publish({ onProgress, signal: AbortSignal.any(signals) }, part?.only);
    this.#running = running;
    const over = () => {
      this.#running = null;
      this.#takenSinceMs = null;
      this.#takenPaths = new Set();
      this.nudge();
    };
    void running.then(
      () => {
        this.#failures = 0;
        over();
      },
      () => {
        this.#failures += 1;
        over();
      },
    );
    return running;
  }

  async #publish(options: WorkOptions, only?: ReadonlySet<string>): Promise<SnapshotRecord | null> {
    const { dirty, clock } = this.#options;
    this.#lastStartMs = clock.monotonicMs();
    const startWallMs = clock.nowMs();
    const mark = dirty.take();
    this.#takenSinceMs = mark?.sinceMonotonicMs ?? null;
    this.#takenPaths = mark?.paths ?? new Set();
    try {
      // Asked for although nothing is known to have changed: there may be what the watcher cannot see.
      const changed = mark?.paths ?? 'everything';
      const { record, tornPaths } = await this.#createAndCommit({ ...options, only }, changed);
      if (only !== undefined) {
        if (mark !== null) dirty.restore({ ...mark, paths: without(mark.paths, only, tornPaths) });
      } else if (tornPaths.length > 0) {
        const sinceMonotonicMs = mark?.sinceMonotonicMs ?? this.#lastStartMs;
        dirty.restore({ sinceMonotonicMs, paths: new Set(tornPaths) });
      } else {
        this.#unseenSinceMs = null;
        this.#options.onSaved(startWallMs);
      }
      return record;
    } catch (error) {
      if (mark !== null) dirty.restore(mark);
      if (this.isStopped) throw toDumontError(this.#stopping.signal.reason, 'ABORTED');
      throw error;
    }
  }

  async #createAndCommit(options: WorkOptions & Pick<Part, 'only'>, changed: DirtyMark['paths']): Promise<Published> {
    const { engine, epoch, commit, log } = this.#options;
    for (let staleParents = 0; staleParents < MAX_STALE_PARENTS; staleParents += 1) {
      options.signal.throwIfAborted();
      const outcome = await engine.create({ ...options, epoch, parent: this.#head, changed });
      const { tornPaths } = outcome;
      if (outcome.kind === 'unchanged') return { record: null, tornPaths };
      const { record } = outcome;
      options.signal.throwIfAborted();
      const asked = commit({ epoch, snapshot: record }, options.signal);
      this.#verdict = asked.catch(() => {});
      const verdict = await asked;
      switch (verdict.kind) {
        case 'committed': {
          const { snapshotId, manifestKey, manifestHash } = record;
          this.#head = { snapshotId, manifestKey, manifestHash };
          log.info(
            { event: 'snapshot-committed', snapshotId, seq: verdict.seq, epoch, newBytes: record.newBytes },
            'a snapshot was committed',
          );
          return { record, tornPaths };
        }
        case 'stale-parent':
          this.#head = verdict.head;
          break;
        case 'stale-epoch':
          throw new DumontError('STALE_EPOCH', `epoch ${epoch} is over, the workspace is at ${verdict.epoch}`);
        default:
          assertNever(verdict);
      }
    }
    throw new DumontError('STALE_PARENT', `the head moved ${MAX_STALE_PARENTS} times while snapshots were taken`, {
      retryable: true,
    });
  }
}

/** What is left of dirty paths once some were published, but for those of them that changed meanwhile. Pure. */
function without(
  paths: DirtyMark['paths'],
  published: ReadonlySet<string>,
  tornPaths: readonly string[],
): DirtyMark['paths'] {
  if (paths === 'everything') return paths;
  return new Set([...[...paths].filter((path) => !published.has(path)), ...tornPaths]);
}
