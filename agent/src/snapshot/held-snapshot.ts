import type { SnapshotCounts } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { FileState, ScannedEntry, SkippedPath } from '../workspace/scan.ts';
import type { DraftEntry, DraftFile } from './draft.ts';
import type { HeldEntries } from './held-entries.ts';

/** Numbers kept of an entry's inode: ctime in ns, 0 when it is not to be trusted; inode; device. */
export const STATE_FIELDS = 3;

/** How a segment is stored. */
export interface StoredSegment {
  /** Of its JSON, in order. */
  readonly chunkIds: readonly string[];
  /** Packs its entries' chunks lie in. */
  readonly packs: readonly string[];
  /** Distinct chunks its entries use, bases included. */
  readonly chunkCount: number;
}

/** A run of entries in memory. Immutable, and shared between the snapshots that have it. */
export interface HeldSegment {
  readonly entries: HeldEntries;
  /** {@link STATE_FIELDS} for each entry: what its inode was when its content was taken. */
  readonly states: BigUint64Array;
  readonly weight: number;
  readonly counts: SnapshotCounts;
  /** Targets of its hard links. */
  readonly linkTargets: readonly string[];
  /** Null while it is in no store. */
  readonly stored: StoredSegment | null;
}

/** A place in a {@link HeldSnapshot}. */
export interface HeldEntry {
  readonly draft: DraftEntry;
  readonly segment: HeldSegment;
  readonly index: number;
}

/** The entries of one snapshot in memory, with what is known of their inodes on this machine. */
export class HeldSnapshot {
  readonly segments: readonly HeldSegment[];
  readonly #linkTargets: ReadonlySet<string>;
  /** The place after the last one found: look-ups mostly go in order. */
  #nextSegment = 0;
  #nextIndex = 0;

  constructor(segments: readonly HeldSegment[]) {
    this.segments = segments;
    this.#linkTargets = new Set(segments.flatMap((segment) => segment.linkTargets));
  }

  get counts(): SnapshotCounts {
    const sum = { entries: 0, files: 0, bytes: 0 };
    for (const { counts } of this.segments) {
      sum.entries += counts.entries;
      sum.files += counts.files;
      sum.bytes += counts.bytes;
    }
    return sum;
  }

  /** The entry of a path; undefined when there is none. Fast in ascending order, logarithmic in any other. */
  find(path: string): HeldEntry | undefined {
    const hint = this.#at(this.#nextSegment, this.#nextIndex) ?? this.#at(this.#nextSegment + 1, 0);
    if (hint?.draft.path === path) return this.#found(hint);
    const segmentIndex = this.segmentOf(path);
    const entries = this.segments[segmentIndex]?.entries.drafts ?? [];
    const index = lowerBound(entries.length, (at) => (entries[at]?.path ?? '') >= path);
    const found = this.#at(segmentIndex, index);
    if (found?.draft.path !== path) return undefined;
    this.#nextSegment = segmentIndex;
    return this.#found(found);
  }

  /** The file at a path, hard links resolved. */
  file(path: string): DraftFile | undefined {
    const draft = this.find(path)?.draft;
    const file = draft?.type === 'hardlink' ? this.find(draft.target)?.draft : draft;
    return file?.type === 'file' ? file : undefined;
  }

  isLinkTarget(path: string): boolean {
    return this.#linkTargets.has(path);
  }

  /** Index of the segment that holds the path, or would: the last that begins at or before it, else the first. */
  segmentOf(path: string): number {
    const after = lowerBound(this.segments.length, (at) => (this.segments[at]?.entries.firstPath ?? '') > path);
    return Math.max(0, after - 1);
  }

  /** Entries with `from <= path < to`, ascending. */
  *range(from: string, to: string): Generator<DraftEntry> {
    for (let at = this.segmentOf(from); at < this.segments.length; at += 1) {
      const { drafts } = must(this.segments[at], 'the index is below the length').entries;
      const start = lowerBound(drafts.length, (index) => (drafts[index]?.path ?? '') >= from);
      for (let index = start; index < drafts.length; index += 1) {
        const draft = must(drafts[index], 'the index is below the length');
        if (draft.path >= to) return;
        yield draft;
      }
    }
  }

  /** Lets go of the entries as objects: none of those that were found may be compared with later ones. */
  rest(): void {
    for (const { entries } of this.segments) entries.rest();
  }

  #at(segmentIndex: number, index: number): HeldEntry | undefined {
    const segment = this.segments[segmentIndex];
    if (segment === undefined || index >= segment.entries.length) return undefined;
    const draft = segment.entries.drafts[index];
    return draft === undefined ? undefined : { draft, segment, index };
  }

  #found(entry: HeldEntry): HeldEntry {
    if (this.segments[this.#nextSegment] !== entry.segment) this.#nextSegment += 1;
    this.#nextIndex = entry.index + 1;
    return entry;
  }
}

/** A snapshot of which all is known to be as it is on disk, but for what is said here. */
export interface HeldTree {
  readonly held: HeldSnapshot;
  /** Sockets and the like, and names that cannot be stored. */
  readonly skipped: readonly SkippedPath[];
  /** Paths to look at again whatever happens: not taken as they are, or changed a moment before they were taken. */
  readonly revisit: readonly string[];
}

/** True when the inode is the one the held entry's content was taken from, untouched since. Pure. */
export function isUntouched({ segment, index, draft }: HeldEntry, now: Omit<FileState, 'mtimeNs'>): boolean {
  const at = index * STATE_FIELDS;
  const ctimeNs = segment.states[at];
  if (ctimeNs === 0n || ctimeNs !== now.ctimeNs) return false;
  if (segment.states[at + 1] !== now.ino || segment.states[at + 2] !== now.dev) return false;
  return draft.type !== 'file' || draft.size === Number(now.size);
}

/** True when the held entry is of the same inode, touched or not. Pure. */
export function isSameInode({ segment, index }: HeldEntry, now: Pick<ScannedEntry, 'ino' | 'dev'>): boolean {
  const at = index * STATE_FIELDS;
  return segment.states[at + 1] === now.ino && segment.states[at + 2] === now.dev;
}

/** The least index in 0…length for which the condition holds; it must hold for all after. Pure. */
function lowerBound(length: number, holds: (index: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
