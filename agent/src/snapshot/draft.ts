import type { ChunkRow, Entry, FileEntry, Holes, Xattrs } from '@dumont/shared/format/manifest.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';
import type { ScannedEntry } from '../workspace/scan.ts';
import type { ChunkLocation } from './pack-writer.ts';

/** A file entry that still names its chunks by id. */
export type DraftFile = Omit<FileEntry, 'chunks'> & { readonly chunkIds: readonly string[] };
/** Immutable and shared: a path that did not change keeps its very object from one snapshot to the next. */
export type DraftEntry = Exclude<Entry, FileEntry> | DraftFile;

/**
 * A restore sets times through doubles of seconds, which miss by less than this. Two times that close count as the same,
 * so that the first snapshot after a restore does not see every file as changed.
 */
const TIME_RESOLUTION_NS = 1_000n;

/** Pure. */
export function isSameTime(aNs: bigint, bNs: bigint): boolean {
  const apart = aNs - bNs;
  return -TIME_RESOLUTION_NS < apart && apart < TIME_RESOLUTION_NS;
}

/** The metadata of a scanned entry, its time kept as the parent wrote it where both are the same instant. Pure. */
export function metadataOf(scanned: ScannedEntry, mtimeNs: bigint, before: DraftEntry | undefined) {
  const { path, mode, uid, gid } = scanned;
  const text = String(mtimeNs);
  const known = before === undefined || before.type === 'hardlink' ? text : before.mtimeNs;
  return { path, mode, uid, gid, mtimeNs: known === text || isSameTime(BigInt(known), mtimeNs) ? known : text };
}

/** `before` itself when the draft says the same. Pure. */
export function sharedDraft<Draft extends DraftEntry>(draft: Draft, before: DraftEntry | undefined): Draft {
  return before !== undefined && isSameDraft(draft, before) ? (before as Draft) : draft;
}

function isSameDraft(a: DraftEntry, b: DraftEntry): boolean {
  if (a.path !== b.path) return false;
  if (a.type === 'hardlink') return b.type === 'hardlink' && a.target === b.target;
  if (b.type === 'hardlink' || a.mode !== b.mode || a.uid !== b.uid || a.gid !== b.gid) return false;
  if (a.mtimeNs !== b.mtimeNs) return false;
  if (a.type === 'symlink') return b.type === 'symlink' && a.target === b.target;
  if (b.type === 'symlink' || !isSameList(a.xattrs, b.xattrs)) return false;
  if (a.type === 'dir') return b.type === 'dir';
  if (b.type === 'dir' || a.size !== b.size || a.torn !== b.torn) return false;
  return isSameList(a.chunkIds, b.chunkIds) && isSameList(a.holes, b.holes);
}

type Plain = string | number | readonly Plain[];

function isSameList(a: readonly Plain[] | undefined, b: readonly Plain[] | undefined): boolean {
  if (a === b) return true;
  if (a?.length !== b?.length || a === undefined || b === undefined) return false;
  return a.every((one, index) => {
    const other = b[index];
    return one === other || (typeof one === 'object' && typeof other === 'object' && isSameList(one, other));
  });
}

/** A file draft with its optional fields present only where they say something. Pure. */
export function fileDraft(
  metadata: ReturnType<typeof metadataOf>,
  content: {
    readonly size: number;
    readonly chunkIds: readonly string[];
    readonly holes: Holes | undefined;
    readonly xattrs: Xattrs | undefined;
    readonly torn: boolean;
  },
): DraftFile {
  const { size, chunkIds, holes, xattrs, torn } = content;
  return {
    type: 'file',
    ...metadata,
    ...(xattrs === undefined ? {} : { xattrs }),
    size,
    chunkIds,
    ...(holes === undefined ? {} : { holes }),
    ...(torn ? { torn } : {}),
  };
}

/** An entry of a segment as a draft. Pure. */
export function draftOfEntry(entry: Entry, chunks: readonly ChunkRow[]): DraftEntry {
  if (entry.type !== 'file') return entry;
  const chunkIds = entry.chunks.map((row) => must(chunks[row], 'a checked segment uses listed chunks only')[0]);
  const { path, mode, uid, gid, mtimeNs, size, holes, xattrs, torn } = entry;
  return fileDraft({ path, mode, uid, gid, mtimeNs }, { size, chunkIds, holes, xattrs, torn: torn === true });
}

/** The drafts as entries with their pack and chunk tables: only what they use, in the order of use. Pure. */
export function buildTables(
  drafts: readonly DraftEntry[],
  locate: (chunkId: string) => ChunkLocation | undefined,
): { readonly packs: string[]; readonly chunks: ChunkRow[]; readonly entries: Entry[] } {
  const table = new ChunkTable(locate);
  const entries = drafts.map((draft): Entry => {
    if (draft.type !== 'file') return draft;
    const { chunkIds, ...rest } = draft;
    return { ...rest, chunks: chunkIds.map((chunkId) => table.rowOf(chunkId)) };
  });
  return { packs: table.packs, chunks: table.chunks, entries };
}

/** Gives chunks rows as they are used, and their bases with them. */
export class ChunkTable {
  readonly packs: string[] = [];
  readonly chunks: ChunkRow[] = [];
  readonly #locate: (chunkId: string) => ChunkLocation | undefined;
  readonly #packRows = new Map<string, number>();
  readonly #rows = new Map<string, number>();

  constructor(locate: (chunkId: string) => ChunkLocation | undefined) {
    this.#locate = locate;
  }

  rowOf(chunkId: string): number {
    const known = this.#rows.get(chunkId);
    if (known !== undefined) return known;
    const at = must(this.#locate(chunkId), 'every chunk of a draft is stored');
    const { packId, offset, storedLength, rawLength, codec, baseId } = at;
    const base = baseId === undefined ? undefined : this.rowOf(baseId);
    assert((codec === 'delta') === (base !== undefined), 'a difference has a base, and nothing else has');
    assert(base === undefined || this.chunks[base]?.[5] !== 'delta', 'a base is no difference itself');
    const pack = this.#packRows.get(packId) ?? this.packs.push(packId) - 1;
    this.#packRows.set(packId, pack);
    const place = [chunkId, pack, offset, storedLength, rawLength, codec] as const;
    const row = this.chunks.push(base === undefined ? place : [...place, base]) - 1;
    this.#rows.set(chunkId, row);
    return row;
  }
}
