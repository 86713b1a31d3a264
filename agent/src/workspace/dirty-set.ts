/** Above this many paths a full rescan is cheaper than the list, and the list would cost tens of megabytes. */
const MAX_DIRTY_PATHS = 50_000;

/** What may differ from the last committed snapshot. */
export interface DirtyMark {
  /** Workspace-relative paths; `everything` asks for a rescan of the whole tree. */
  readonly paths: ReadonlySet<string> | 'everything';
  /** Monotonic time of the oldest change in it, ms. */
  readonly sinceMonotonicMs: number;
}

/**
 * The changes not yet in a committed snapshot. Nothing is lost by a failed snapshot: what was taken is put back. Pure
 * bookkeeping; time is passed in.
 */
export class DirtySet {
  readonly #limit: number;
  #paths = new Set<string>();
  #everything = false;
  #sinceMs: number | null = null;

  constructor(limit: number = MAX_DIRTY_PATHS) {
    this.#limit = limit;
  }

  mark(path: string, nowMonotonicMs: number): void {
    this.#sinceMs = Math.min(this.#sinceMs ?? Infinity, nowMonotonicMs);
    if (this.#everything) return;
    this.#paths.add(path);
    if (this.#paths.size > this.#limit) this.#forgetPaths();
  }

  markEverything(nowMonotonicMs: number): void {
    this.#sinceMs = Math.min(this.#sinceMs ?? Infinity, nowMonotonicMs);
    this.#forgetPaths();
  }

  /** Empties the set into a mark; null when nothing is dirty. The taker restores it unless the changes became safe. */
  take(): DirtyMark | null {
    if (this.#sinceMs === null) return null;
    const mark: DirtyMark = {
      paths: this.#everything ? 'everything' : this.#paths,
      sinceMonotonicMs: this.#sinceMs,
    };
    this.#paths = new Set();
    this.#everything = false;
    this.#sinceMs = null;
    return mark;
  }

  /** Puts a taken mark back, together with what was marked since. */
  restore(mark: DirtyMark): void {
    if (mark.paths === 'everything') this.markEverything(mark.sinceMonotonicMs);
    else for (const path of mark.paths) this.mark(path, mark.sinceMonotonicMs);
  }

  /** Monotonic time of the oldest change, null when nothing is dirty. */
  get sinceMonotonicMs(): number | null {
    return this.#sinceMs;
  }

  /** What is dirty, as it is now. */
  get paths(): DirtyMark['paths'] {
    return this.#everything ? 'everything' : this.#paths;
  }

  get size(): number | 'everything' {
    return this.#everything ? 'everything' : this.#paths.size;
  }

  #forgetPaths(): void {
    this.#everything = true;
    this.#paths = new Set();
  }
}
