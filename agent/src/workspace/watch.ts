import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { type DirtyMark, DirtySet } from './dirty-set.ts';
import { FolderWatch } from './folder-watch.ts';

/** Even a healthy watcher misses changes (queue overflow in the kernel, mmap writes): look at everything now and then. */
const RECONCILE_INTERVAL_MS = 3_600_000;
/** Without a watcher: often enough to keep the loss small, rare enough that scanning stays in the background. */
const FALLBACK_INTERVAL_MS = 10_000;
/**
 * The kernel's event queue holds 16,384 events by default and drops what does not fit, silently. A burst of half that
 * between two quiet moments may have overflowed it.
 */
const BURST_EVENTS = 8_192;
const BURST_QUIET_MS = 1_000;

/** Which paths the workspace leaves out of snapshots. */
export interface WatchIgnore {
  ignores(relativePath: string, isDirectory: boolean): boolean;
}

export interface WorkspaceWatcherOptions {
  readonly root: string;
  readonly ignore: WatchIgnore;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called when something becomes dirty while nothing was. Must not throw. */
  readonly onFirstDirty: () => void;
  readonly maxDirtyPaths?: number;
  readonly fallbackIntervalMs?: number;
  readonly reconcileIntervalMs?: number;
}

/** The changes of a workspace as one more consumer of them has them: what it takes, the others still see. */
export interface DirtyFollower extends Disposable {
  /** Monotonic time of the oldest change not taken, null when clean. */
  readonly sinceMonotonicMs: number | null;
  /** What it would take now. */
  readonly paths: DirtyMark['paths'];
  /** Empties its own set; null when clean. */
  take(): DirtyMark | null;
}

/**
 * Knows what changed in a workspace folder since the last snapshot. It would rather call too much dirty than too
 * little: everything is dirty at the start, after the first scan, after a burst, every hour, and periodically when the
 * system cannot watch.
 */
export class WorkspaceWatcher implements AsyncDisposable {
  readonly #options: WorkspaceWatcherOptions;
  readonly #dirty: DirtySet;
  readonly #followers = new Set<{ readonly dirty: DirtySet; readonly onDirty: () => void }>();
  readonly #cancels: (() => void)[] = [];
  #watcher: FolderWatch | null = null;
  #mode: 'watching' | 'rescanning' = 'watching';
  #burstEvents = 0;
  #lastPath: string | null = null;
  #afterBurst = false;
  #cancelBurst: (() => void) | null = null;

  constructor(options: WorkspaceWatcherOptions) {
    this.#options = options;
    this.#dirty = new DirtySet(options.maxDirtyPaths);
  }

  /** Starts watching; call once, the folder must exist. Resolves when the first scan is over or watching has failed. */
  async start(): Promise<void> {
    const { root, ignore, clock, reconcileIntervalMs } = this.#options;
    this.markEverything();
    this.#cancels.push(clock.every(reconcileIntervalMs ?? RECONCILE_INTERVAL_MS, () => this.markEverything()));
    this.#watcher = new FolderWatch({
      root,
      ignores: (path, isDirectory) => ignore.ignores(path, isDirectory),
      onChange: (path) => this.#onChange(path),
      onFailure: (error) => this.#fallBack(error),
    });
    await this.#watcher.start();
    // What changed while the first scan ran was not reported.
    if (this.#watcher !== null) this.markEverything();
  }

  /** `rescanning` when the system cannot watch and everything is called dirty periodically. */
  get mode(): 'watching' | 'rescanning' {
    return this.#mode;
  }

  get isDirty(): boolean {
    return this.#dirty.sinceMonotonicMs !== null;
  }

  /** Monotonic time of the oldest change not taken, null when clean. */
  get sinceMonotonicMs(): number | null {
    return this.#dirty.sinceMonotonicMs;
  }

  /** What is dirty now. */
  get paths(): DirtyMark['paths'] {
    return this.#dirty.paths;
  }

  /** Empties the dirty set; null when clean. Restore what was taken unless it became safe. */
  take(): DirtyMark | null {
    return this.#dirty.take();
  }

  restore(mark: DirtyMark): void {
    this.#marking(() => this.#dirty.restore(mark));
  }

  /**
   * One more consumer of changes, for which everything is dirty at first.
   * @param onDirty called with every change. Must not throw
   */
  follow(onDirty: () => void): DirtyFollower {
    const dirty = new DirtySet(this.#options.maxDirtyPaths);
    const follower = { dirty, onDirty };
    dirty.markEverything(this.#options.clock.monotonicMs());
    this.#followers.add(follower);
    return {
      get sinceMonotonicMs() {
        return dirty.sinceMonotonicMs;
      },
      get paths() {
        return dirty.paths;
      },
      take: () => dirty.take(),
      [Symbol.dispose]: () => this.#followers.delete(follower),
    };
  }

  /** Calls one workspace-relative path dirty, for instance one that changed while it was being read. */
  mark(path: string): void {
    const nowMs = this.#options.clock.monotonicMs();
    this.#marking(() => this.#dirty.mark(path, nowMs));
    this.#tell((dirty) => dirty.mark(path, nowMs));
  }

  markEverything(): void {
    const nowMs = this.#options.clock.monotonicMs();
    this.#marking(() => this.#dirty.markEverything(nowMs));
    this.#tell((dirty) => dirty.markEverything(nowMs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const cancel of this.#cancels.splice(0)) cancel();
    this.#cancelBurst?.();
    this.#closeWatcher();
  }

  #onChange(path: string | null): void {
    if (path === null) this.markEverything();
    else this.mark(path);
    // Every write to a large file is an event, and the kernel keeps one of equal ones that follow each other: no burst.
    if (path !== null && path === this.#lastPath) return;
    this.#lastPath = path;
    this.#burstEvents += 1;
    this.#cancelBurst ??= this.#options.clock.after(BURST_QUIET_MS, () => this.#onBurstWindow());
  }

  #onBurstWindow(): void {
    const burst = this.#burstEvents >= BURST_EVENTS;
    this.#burstEvents = 0;
    this.#cancelBurst = null;
    // The window after a burst marks once more, so that one mark comes after the last event that may have been lost.
    if (burst || this.#afterBurst) this.markEverything();
    if (burst) this.#cancelBurst = this.#options.clock.after(BURST_QUIET_MS, () => this.#onBurstWindow());
    this.#afterBurst = burst;
  }

  #fallBack(error: unknown): void {
    if (this.#mode === 'rescanning') return;
    this.#mode = 'rescanning';
    const { clock, log, root } = this.#options;
    const intervalMs = this.#options.fallbackIntervalMs ?? FALLBACK_INTERVAL_MS;
    log.warn(
      {
        event: 'watch-failed',
        root,
        code: systemErrorCode(error) ?? null,
        err: error,
        intervalMs,
        hint: hintFor(error),
      },
      'cannot watch the workspace: it is rescanned periodically instead',
    );
    this.#closeWatcher();
    this.markEverything();
    this.#cancels.push(clock.every(intervalMs, () => this.markEverything()));
  }

  #closeWatcher(): void {
    this.#watcher?.[Symbol.dispose]();
    this.#watcher = null;
  }

  #tell(mark: (dirty: DirtySet) => void): void {
    for (const { dirty, onDirty } of this.#followers) {
      mark(dirty);
      onDirty();
    }
  }

  #marking(mark: () => void): void {
    const wasDirty = this.isDirty;
    mark();
    if (!wasDirty && this.isDirty) this.#options.onFirstDirty();
  }
}

function hintFor(error: unknown): string {
  const code = systemErrorCode(error) ?? '';
  switch (code) {
    case 'ENOSPC':
      return 'The inotify watch limit is used up: sysctl fs.inotify.max_user_watches=1048576, or ignore large folders in .dumontignore.';
    case 'EMFILE':
      return 'Too many open files or inotify instances: raise ulimit -n and sysctl fs.inotify.max_user_instances=1024.';
    default:
      return 'Changes are still found, at the price of a scan; restart the agent once the cause is gone.';
  }
}
