import { must } from '@dumont/shared/util/assert.ts';
import type { ChangeScan } from './changed-paths.ts';
import type { HeldSegment, HeldSnapshot } from './held-snapshot.ts';
import { SegmentCutter } from './segment-cutter.ts';
import type { ReadEntry, TreeRead } from './tree-reader.ts';

/** The segments of a tree that was looked at as a whole. Pure. */
export function mergeScan(parent: HeldSnapshot | null, { entries }: Pick<TreeRead, 'entries'>): readonly HeldSegment[] {
  const cutter = new SegmentCutter(parent);
  for (const { draft, state } of entries) cutter.add(draft, state);
  return cutter.finish();
}

/**
 * The segments of a tree of which only what may have changed was looked at: the parent's, but for what was dropped, with
 * what was read. Segments that none of it touches stay as they are. Pure.
 */
export function mergeChanges(
  parent: HeldSnapshot,
  { dropped, droppedTrees }: Pick<ChangeScan, 'dropped' | 'droppedTrees'>,
  { entries }: Pick<TreeRead, 'entries'>,
): readonly HeldSegment[] {
  const isDropped = dropCheck(dropped, droppedTrees);
  const touched = touchedSegments(parent, { dropped, droppedTrees }, entries);
  const cutter = new SegmentCutter(parent);
  let next = 0;
  const addRead = (before: string | undefined) => {
    for (; next < entries.length; next += 1) {
      const { draft, state } = must(entries[next], 'the index is below the length');
      if (before !== undefined && draft.path >= before) return;
      cutter.add(draft, state);
    }
  };
  for (const [at, segment] of parent.segments.entries()) {
    if (!touched.has(at)) {
      cutter.addSegment(segment);
      continue;
    }
    for (const [index, { path }] of segment.entries.drafts.entries()) {
      addRead(path);
      if (!isDropped(path)) cutter.addHeld(segment, index);
    }
    addRead(parent.segments[at + 1]?.entries.firstPath);
  }
  addRead(undefined);
  return cutter.finish();
}

/** True when the segments hold exactly the snapshot's entries, however they are cut. Pure. */
export function isSameTree(segments: readonly HeldSegment[], snapshot: HeldSnapshot): boolean {
  const before = snapshot.segments;
  const isCutAlike =
    segments.length === before.length && segments.every((one, at) => one.entries.length === before[at]?.entries.length);
  if (isCutAlike) {
    return segments.every(({ entries }, at) => {
      const others = before[at]?.entries;
      return entries === others || entries.drafts.every((draft, index) => draft === others?.drafts[index]);
    });
  }
  const flat = segments.flatMap((one) => one.entries.drafts);
  const others = before.flatMap((one) => one.entries.drafts);
  return flat.length === others.length && flat.every((draft, index) => draft === others[index]);
}

function touchedSegments(
  parent: HeldSnapshot,
  { dropped, droppedTrees }: Pick<ChangeScan, 'dropped' | 'droppedTrees'>,
  entries: readonly ReadEntry[],
): ReadonlySet<number> {
  const touched = new Set<number>();
  for (const path of dropped) touched.add(parent.segmentOf(path));
  for (const { draft } of entries) touched.add(parent.segmentOf(draft.path));
  for (const tree of droppedTrees) {
    const last = parent.segmentOf(`${tree}0`);
    for (let at = parent.segmentOf(`${tree}/`); at <= last; at += 1) touched.add(at);
  }
  return touched;
}

function dropCheck(dropped: ReadonlySet<string>, trees: ReadonlySet<string>): (path: string) => boolean {
  return (path) => {
    if (dropped.has(path)) return true;
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      if (trees.has(path.slice(0, end))) return true;
    }
    return false;
  };
}
