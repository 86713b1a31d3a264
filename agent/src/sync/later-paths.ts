interface LaterPath {
  readonly dueMs: number;
  readonly sinceMs: number;
  /** What the standby may lack of it. */
  readonly bytes: number;
}

/** Paths that are looked at again at a time, with the time of the oldest change of each. */
export class LaterPaths {
  readonly #paths = new Map<string, LaterPath>();

  get size(): number {
    return this.#paths.size;
  }

  /** When the first is due, Infinity when none is. */
  get dueMs(): number {
    return this.#least((one) => one.dueMs);
  }

  /** Monotonic time of the oldest change, Infinity when there is none. */
  get sinceMs(): number {
    return this.#least((one) => one.sinceMs);
  }

  get bytes(): number {
    let bytes = 0;
    for (const one of this.#paths.values()) bytes += one.bytes;
    return bytes;
  }

  has(path: string): boolean {
    return this.#paths.has(path);
  }

  /** Again for a path moves its time. */
  add(path: string, { dueMs, sinceMs, bytes }: LaterPath): void {
    this.#paths.set(path, { dueMs, sinceMs: Math.min(sinceMs, this.#paths.get(path)?.sinceMs ?? Infinity), bytes });
  }

  takeDue(nowMs: number): readonly { readonly path: string; readonly sinceMs: number }[] {
    const due = [...this.#paths].filter(([, { dueMs }]) => dueMs <= nowMs);
    for (const [path] of due) this.#paths.delete(path);
    return due.map(([path, { sinceMs }]) => ({ path, sinceMs }));
  }

  #least(of: (one: LaterPath) => number): number {
    let least = Infinity;
    for (const one of this.#paths.values()) least = Math.min(least, of(one));
    return least;
  }
}
