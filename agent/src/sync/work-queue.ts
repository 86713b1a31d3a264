import type { ScannedEntry } from '../workspace/scan.ts';
import { isPlain } from '../workspace/dirty-size.ts';
import type { DirtyFollower } from '../workspace/watch.ts';
import { LARGE_FILE_BYTES } from './change-planner.ts';

/** Paths of one round: looked at in the order of their names before newer ones get their turn. */
const ROUND_PATHS = 512;
/** Paths to look at, with the time of the oldest change of each. What was just changed goes before what a scan found. */
export class WorkQueue {
  readonly #urgent = new Map<string, { readonly sinceMs: number; readonly bytes: number }>();
  readonly #sizeOf: (path: string) => number;
  #urgentBytes = 0;
  readonly #large = new Map<string, { readonly size: number; readonly sinceMs: number }>();
  #backlog: { readonly path: string; readonly size: number }[] = [];
  #backlogBytes = 0;
  #backlogSinceMs = Infinity;

  /** @param sizeOf bytes of the file at a path, 0 for what is none */
  constructor(sizeOf: (path: string) => number) {
    this.#sizeOf = sizeOf;
  }

  get hasSmall(): boolean {
    return this.#urgent.size > 0 || this.#backlog.length > 0;
  }

  get isEmpty(): boolean {
    return !this.hasSmall && this.#large.size === 0;
  }

  get hasBacklog(): boolean {
    return this.#backlog.length > 0;
  }

  /** Size of the files that wait, each as it was when its last change was told of. */
  get bytes(): number {
    let large = 0;
    for (const { size } of this.#large.values()) large += size;
    return this.#urgentBytes + this.#backlogBytes + large;
  }

  /** Monotonic time of the oldest change that waits, Infinity when none does. */
  get sinceMs(): number {
    let sinceMs = this.#backlog.length > 0 ? this.#backlogSinceMs : Infinity;
    for (const one of this.#urgent.values()) sinceMs = Math.min(sinceMs, one.sinceMs);
    for (const one of this.#large.values()) sinceMs = Math.min(sinceMs, one.sinceMs);
    return sinceMs;
  }

  /** Names no path of ours can have, such as the root's, are passed over. */
  addUrgent(path: string, sinceMs: number): void {
    if (path === '' || path.includes('\uFFFD')) return;
    const before = this.#urgent.get(path);
    const bytes = this.#sizeOf(path);
    this.#urgentBytes += bytes - (before?.bytes ?? 0);
    this.#urgent.set(path, { sinceMs: Math.min(sinceMs, before?.sinceMs ?? Infinity), bytes });
  }

  /** Takes what it can of changes, so that the size of each is known as it is told of. */
  takeIn(changes: DirtyFollower, mostPaths = Infinity): void {
    if (!isPlain(changes.paths) || this.#urgent.size > mostPaths) return;
    const mark = changes.take();
    if (mark === null || mark.paths === 'everything') return;
    for (const path of mark.paths) this.addUrgent(path, mark.sinceMonotonicMs);
  }

  isLarge(path: string): boolean {
    return this.#large.has(path);
  }

  addLarge(path: string, size: number, sinceMs: number): void {
    this.#large.set(path, { size, sinceMs: Math.min(sinceMs, this.#large.get(path)?.sinceMs ?? Infinity) });
  }

  /** Replaces what an earlier scan found: folders first, then small files, the newest first, then large ones by size. */
  setBacklog(found: readonly ScannedEntry[], gone: readonly string[], sinceMs: number): void {
    const rank = ({ type, size }: ScannedEntry) => (type === 'dir' ? 0 : size <= LARGE_FILE_BYTES ? 1 : 2);
    const order = found.toSorted((a, b) => {
      const ranks = rank(a) - rank(b);
      if (ranks !== 0) return ranks;
      if (a.type === 'dir') return a.path < b.path ? -1 : 1;
      return rank(a) === 2 ? Number(a.size - b.size) : Number(b.mtimeNs - a.mtimeNs);
    });
    const all = [
      ...order.map(({ path, size }) => ({ path, size: Number(size) })),
      ...gone.map((path) => ({ path, size: 0 })),
    ];
    this.#backlogSinceMs = Math.min(sinceMs, this.#backlog.length > 0 ? this.#backlogSinceMs : Infinity);
    this.#backlog = all.toReversed();
    this.#backlogBytes = all.reduce((sum, { size }) => sum + size, 0);
  }

  /** The next paths, ascending, so that a folder comes before what it holds. */
  takeRound(): { readonly paths: readonly string[]; readonly sinceMs: number; readonly bytes: number } {
    const paths = new Set<string>();
    let sinceMs = Infinity;
    let bytes = 0;
    for (const [path, one] of this.#urgent) {
      if (paths.size >= ROUND_PATHS) break;
      for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) paths.add(path.slice(0, end));
      sinceMs = Math.min(sinceMs, one.sinceMs);
      bytes += one.bytes;
      this.#urgent.delete(path);
    }
    this.#urgentBytes -= bytes;
    if (paths.size === 0 && this.#backlog.length > 0) {
      sinceMs = this.#backlogSinceMs;
      for (let next = this.#backlog.pop(); next !== undefined; next = this.#backlog.pop()) {
        paths.add(next.path);
        this.#backlogBytes -= next.size;
        bytes += next.size;
        if (paths.size >= ROUND_PATHS) break;
      }
    }
    return { paths: [...paths].toSorted(), sinceMs, bytes };
  }

  /** The smallest of the large files. */
  takeLarge(): { readonly path: string; readonly size: number; readonly sinceMs: number } | null {
    let least: { readonly path: string; readonly size: number; readonly sinceMs: number } | null = null;
    for (const [path, one] of this.#large) if (least === null || one.size < least.size) least = { path, ...one };
    if (least !== null) this.#large.delete(least.path);
    return least;
  }
}
