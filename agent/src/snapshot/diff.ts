import type { ChunkRow, Entry, Manifest } from '@dumont/shared/format/manifest.ts';
import { draftOfEntry, sharedDraft, type DraftEntry } from './draft.ts';

/** Paths in which two snapshots differ, each in one list, ascending. */
export interface SnapshotDiff {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Of another type, target or content. */
  readonly changed: readonly string[];
  /** Same content; mode, owner, time or attributes differ. */
  readonly metadata: readonly string[];
  /** Bytes of chunks that only the second has. */
  readonly addedBytes: number;
  /** Bytes of chunks that only the first has. */
  readonly removedBytes: number;
}

/** What differs in `b` from `a`. Pure. */
export function diffSnapshots(a: Manifest, b: Manifest): SnapshotDiff {
  const before = new Map(a.entries.map((entry) => [entry.path, entry]));
  const added: string[] = [];
  const changed: string[] = [];
  const metadata: string[] = [];
  for (const entry of b.entries) {
    const old = before.get(entry.path);
    before.delete(entry.path);
    if (old === undefined) {
      added.push(entry.path);
      continue;
    }
    const [one, other] = [draftOfEntry(old, a.chunks), draftOfEntry(entry, b.chunks)];
    if (sharedDraft(other, one) === one) continue;
    (isSameContent(one, other) ? metadata : changed).push(entry.path);
  }
  const bytes = { addedBytes: bytesOnlyIn(b, a), removedBytes: bytesOnlyIn(a, b) };
  return { added, removed: [...before.keys()], changed, metadata, ...bytes };
}

function isSameContent(a: DraftEntry, b: DraftEntry): boolean {
  if (a.type === 'file' && b.type === 'file') {
    const content = ({ size, chunkIds, holes, torn }: typeof a) => JSON.stringify([size, chunkIds, holes, torn]);
    return content(a) === content(b);
  }
  if (a.type === 'symlink' && b.type === 'symlink') return a.target === b.target;
  return a.type === 'dir' && b.type === 'dir';
}

/** Chunks that are only bases of others are no content. */
function bytesOnlyIn(one: Manifest, other: Manifest): number {
  const known = contentOf(other);
  let bytes = 0;
  for (const [id, length] of contentOf(one)) if (!known.has(id)) bytes += length;
  return bytes;
}

function contentOf({
  entries,
  chunks,
}: {
  entries: readonly Entry[];
  chunks: readonly ChunkRow[];
}): Map<string, number> {
  const content = new Map<string, number>();
  for (const entry of entries) {
    for (const row of entry.type === 'file' ? entry.chunks : []) {
      const chunk = chunks[row];
      if (chunk !== undefined) content.set(chunk[0], chunk[4]);
    }
  }
  return content;
}
