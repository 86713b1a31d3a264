import type { ChunkRow, Entry, FileEntry } from '@dumont/shared/format/manifest.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { ScannedEntry } from '../workspace/scan.ts';
import type { LoadedManifest } from './loaded-manifest.ts';
import type { ChunkLocation } from './pack-writer.ts';

/** A file entry that still names its chunks by id. */
export type DraftFile = Omit<FileEntry, 'chunks'> & { readonly chunkIds: readonly string[] };
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
export function metadataOf(scanned: ScannedEntry, mtimeNs: bigint, parent: LoadedManifest | null) {
  const before = parent?.entry(scanned.path);
  const known = before === undefined || before.type === 'hardlink' ? undefined : before.mtimeNs;
  return {
    path: scanned.path,
    mode: Number(scanned.stats.mode & 0o7777n),
    uid: Number(scanned.stats.uid),
    gid: Number(scanned.stats.gid),
    mtimeNs: known !== undefined && isSameTime(BigInt(known), mtimeNs) ? known : String(mtimeNs),
  };
}

/** A file as the parent has it, under a path that may have been a hard link there. Pure. */
export function draftFromParent(parent: LoadedManifest, file: FileEntry, path: string): DraftFile {
  const { chunks: _, ...rest } = file;
  return { ...rest, path, chunkIds: parent.chunkIds(file) };
}

/** True when the drafts, ascending by path, are exactly the parent's entries. Pure. */
export function equalsParent(drafts: readonly DraftEntry[], parent: LoadedManifest): boolean {
  const before = parent.manifest.entries;
  if (before.length !== drafts.length) return false;
  return drafts.every((draft, index) => {
    const entry = must(before[index], 'both lists have this length');
    if (entry.type === 'file') {
      if (draft.type !== 'file') return false;
      return JSON.stringify(draftFromParent(parent, entry, entry.path), KEYS) === JSON.stringify(draft, KEYS);
    }
    return draft.type !== 'file' && JSON.stringify(entry, KEYS) === JSON.stringify(draft, KEYS);
  });
}

/** Every field of an entry, in one order for comparing; array elements are not filtered by it. */
const KEYS = ['type', 'path', 'mode', 'uid', 'gid', 'mtimeNs', 'size', 'target', 'torn', 'chunkIds'];

/** The drafts as entries with their pack and chunk tables: only what they use, in the order of use. Pure. */
export function buildTables(
  drafts: readonly DraftEntry[],
  locate: (chunkId: string) => ChunkLocation | undefined,
): { readonly packs: string[]; readonly chunks: ChunkRow[]; readonly entries: Entry[] } {
  const packRows = new Map<string, number>();
  const chunkRows = new Map<string, number>();
  const chunks: ChunkRow[] = [];
  const rowOf = (chunkId: string): number => {
    const known = chunkRows.get(chunkId);
    if (known !== undefined) return known;
    const at = must(locate(chunkId), 'every chunk of a draft is stored');
    const packRow = packRows.get(at.packId) ?? packRows.size;
    packRows.set(at.packId, packRow);
    chunkRows.set(chunkId, chunks.length);
    chunks.push([chunkId, packRow, at.offset, at.storedLength, at.rawLength, at.codec]);
    return chunks.length - 1;
  };
  const entries = drafts.map((draft): Entry => {
    if (draft.type !== 'file') return draft;
    const { chunkIds, ...rest } = draft;
    return { ...rest, chunks: chunkIds.map(rowOf) };
  });
  return { packs: [...packRows.keys()], chunks, entries };
}
