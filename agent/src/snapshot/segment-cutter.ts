import { beginsSegment, isSegmentFull, segmentWeight } from '@dumont/shared/format/segment.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { DraftEntry } from './draft.ts';
import { HeldEntries } from './held-entries.ts';
import { STATE_FIELDS, type HeldSegment, type HeldSnapshot } from './held-snapshot.ts';

/** What is kept of an entry's inode; see {@link STATE_FIELDS}. */
export interface InodeState {
  /** 0 when it is not to be trusted. */
  readonly ctimeNs: bigint;
  readonly ino: bigint;
  readonly dev: bigint;
}

const UNKNOWN: InodeState = { ctimeNs: 0n, ino: 0n, dev: 0n };
const NO_TARGETS: readonly string[] = [];

/**
 * Cuts a list of entries into segments: in the same places whether it is given entry by entry or by whole segments of an
 * earlier snapshot. A segment with the very entries of one of the earlier snapshot's is taken to be stored as that is.
 */
export class SegmentCutter {
  readonly #earlier: HeldSnapshot | null;
  readonly #closed: HeldSegment[] = [];
  #entries: DraftEntry[] = [];
  #states: bigint[] = [];
  #weight = 0;

  constructor(earlier: HeldSnapshot | null) {
    this.#earlier = earlier;
  }

  /** Adds an entry; paths ascend. */
  add(draft: DraftEntry, { ctimeNs, ino, dev }: InodeState = UNKNOWN): void {
    if (this.#isAtBoundary(draft.path)) this.#close();
    else if (this.#entries.length === 0) this.#reopen();
    this.#entries.push(draft);
    this.#states.push(ctimeNs, ino, dev);
    this.#weight += weightOf(draft);
  }

  /** Adds what lies at an index of a segment. */
  addHeld({ entries, states }: HeldSegment, index: number): void {
    const [ctimeNs = 0n, ino = 0n, dev = 0n] = states.subarray(index * STATE_FIELDS, (index + 1) * STATE_FIELDS);
    this.add(must(entries.drafts[index], 'the index is below the length'), { ctimeNs, ino, dev });
  }

  /** Adds all entries of a segment, at once where it may stay as it is. */
  addSegment(segment: HeldSegment): void {
    if (this.#isAtBoundary(segment.entries.firstPath)) {
      this.#close();
      this.#closed.push(segment);
    } else {
      for (let index = 0; index < segment.entries.length; index += 1) this.addHeld(segment, index);
    }
  }

  finish(): readonly HeldSegment[] {
    this.#close();
    return this.#closed;
  }

  #isAtBoundary(path: string): boolean {
    if (beginsSegment(path)) return true;
    const last = this.#entries.length > 0 ? null : this.#closed.at(-1);
    if (last === undefined) return true;
    return last === null
      ? isSegmentFull(this.#entries.length, this.#weight)
      : isSegmentFull(last.entries.length, last.weight);
  }

  /** The last segment goes on: its old end is none any more. */
  #reopen(): void {
    const last = must(this.#closed.pop(), 'no boundary is due, so there is a segment before');
    this.#entries = [...last.entries.drafts];
    this.#states = [...last.states];
    this.#weight = last.weight;
  }

  #close(): void {
    const entries = this.#entries;
    const [first] = entries;
    if (first === undefined) return;
    const same = this.#sameEarlier(entries, first.path);
    const states = new BigUint64Array(this.#states);
    this.#closed.push(same === undefined ? segmentOf(entries, states, this.#weight) : { ...same, states });
    this.#entries = [];
    this.#states = [];
    this.#weight = 0;
  }

  #sameEarlier(entries: readonly DraftEntry[], first: string): HeldSegment | undefined {
    const earlier = this.#earlier?.segments[this.#earlier.segmentOf(first)];
    if (earlier?.entries.length !== entries.length) return undefined;
    const { drafts } = earlier.entries;
    return entries.every((draft, index) => draft === drafts[index]) ? earlier : undefined;
  }
}

/** A segment that is not stored yet. Pure. */
function segmentOf(drafts: readonly DraftEntry[], states: BigUint64Array, weight: number): HeldSegment {
  const counts = { entries: drafts.length, files: 0, bytes: 0 };
  const linkTargets: string[] = [];
  for (const draft of drafts) {
    if (draft.type === 'hardlink') linkTargets.push(draft.target);
    if (draft.type === 'file' || draft.type === 'hardlink') counts.files += 1;
    if (draft.type === 'file') counts.bytes += draft.size;
  }
  const stored = null;
  const entries = new HeldEntries(drafts);
  return { entries, states, weight, counts, linkTargets: linkTargets.length === 0 ? NO_TARGETS : linkTargets, stored };
}

/** A segment as it was read from a store; nothing is known of the inodes. Pure. */
export function segmentFromStore(entries: readonly DraftEntry[], stored: HeldSegment['stored']): HeldSegment {
  const weight = entries.reduce((sum, draft) => sum + weightOf(draft), 0);
  return { ...segmentOf(entries, new BigUint64Array(entries.length * STATE_FIELDS), weight), stored };
}

function weightOf(draft: DraftEntry): number {
  if (draft.type === 'hardlink' || draft.type === 'symlink') return segmentWeight(draft, 0, draft.target.length);
  const attributes = (draft.xattrs ?? []).reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  if (draft.type === 'dir') return segmentWeight(draft, 0, attributes);
  return segmentWeight(draft, draft.chunkIds.length, attributes + 24 * (draft.holes?.length ?? 0));
}
