import { must } from '@dumont/shared/util/assert.ts';
import { draftOfEntry } from './draft.ts';
import { HeldSnapshot, type HeldSegment } from './held-snapshot.ts';
import type { StoredSnapshot } from './manifest-store.ts';
import { segmentFromStore } from './segment-cutter.ts';

/** A stored snapshot in memory, with what the next one needs of its root. */
export interface LoadedSnapshot {
  readonly held: HeldSnapshot;
  /** Every pack that its root or a segment names. */
  readonly packs: ReadonlySet<string>;
  readonly seq: number;
  readonly priority: readonly string[];
}

/** A stored snapshot in memory; nothing is known of its inodes. Pure. */
export function holdSnapshot({ root, segments }: StoredSnapshot): HeldSnapshot {
  const held = segments.map(({ packs, chunks, entries }, index) => {
    const rows = must(root.segments[index], 'there is a segment for each of the root').chunks;
    const chunkIds = rows.map((row) => must(root.chunks[row], 'a checked root lists its rows')[0]);
    const drafts = entries.map((entry) => draftOfEntry(entry, chunks));
    return segmentFromStore(drafts, { chunkIds, packs, chunkCount: chunks.length });
  });
  return new HeldSnapshot(held);
}

/** Ids of all chunks that snapshots use, with repetitions. */
export function* idsOf(snapshots: readonly LoadedSnapshot[]): Generator<string> {
  for (const { held } of snapshots) for (const segment of held.segments) yield* chunkIdsOf(segment);
}

/** Ids of the chunks a segment is stored in and of those its files consist of. */
export function* chunkIdsOf({ entries, stored }: HeldSegment): Generator<string> {
  if (stored !== null) yield* stored.chunkIds;
  for (const draft of entries.drafts) if (draft.type === 'file') yield* draft.chunkIds;
}

/** Packs a snapshot's root names and those its segments do. Pure. */
export function packsOf(rootPacks: readonly string[], held: HeldSnapshot): ReadonlySet<string> {
  const packs = new Set(rootPacks);
  for (const { stored } of held.segments) for (const packId of stored?.packs ?? []) packs.add(packId);
  return packs;
}
