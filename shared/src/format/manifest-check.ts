import { DumontError } from '../util/errors.ts';
import { MAX_CHUNKS, MAX_MANIFEST_BYTES, MAX_SEGMENT_BYTES } from './limits.ts';
import type { Entry, ManifestRoot } from './manifest.ts';
import type { Segment } from './segment.ts';

/**
 * Refuses a root with references that lead nowhere or segments out of order. Pure.
 * @throws {DumontError} CORRUPT naming what is at fault
 */
export function checkRoot(root: ManifestRoot): void {
  const seen = new Set<string>();
  for (const [id, pack, , , , codec] of root.chunks) {
    if (pack >= root.packs.length) throw refused(id, 'the chunk lies in a pack that is not listed');
    if (codec === 'delta') throw refused(id, 'a part of a manifest is no difference');
    if (seen.has(id)) throw refused(id, 'the chunk is listed twice');
    seen.add(id);
  }
  let before = '';
  let entries = 0;
  let totalBytes = 0;
  for (const segment of root.segments) {
    if (segment.first <= before) throw refused(segment.first, 'the segment does not come after the one before it');
    before = segment.first;
    entries += segment.entries;
    let bytes = 0;
    for (const row of segment.chunks) {
      const chunk = root.chunks[row];
      if (chunk === undefined) throw refused(segment.first, 'the segment uses a chunk that is not listed');
      bytes += chunk[4];
    }
    if (bytes > MAX_SEGMENT_BYTES) throw refused(segment.first, 'the segment is too large');
    totalBytes += bytes;
  }
  if (totalBytes > MAX_MANIFEST_BYTES) throw refused('segments', 'they are too large together');
  if (entries !== root.counts.entries) throw refused('counts', 'the segments hold another number of entries');
}

/**
 * Refuses segments, each good by itself, that do not make a tree: a path twice, an entry below what is no folder, a hard
 * link to what is no file, one chunk with two lengths; and a root that says something else of them. Pure.
 * @param segments those of `root.segments`, in order
 * @throws {DumontError} CORRUPT naming the first path or chunk at fault
 */
export function checkTogether(root: ManifestRoot, segments: readonly Segment[]): void {
  const lengths = new Map<string, number>();
  const tree = new TreeCheck();
  for (const [index, { first, entries }] of root.segments.entries()) {
    const segment = segments[index];
    if (segment === undefined || segment.entries.length !== entries || segment.entries[0]?.path !== first) {
      throw refused(first, 'the segment is not the one the root speaks of');
    }
    for (const [id, , , , rawLength] of segment.chunks) {
      if ((lengths.get(id) ?? rawLength) !== rawLength) throw refused(id, 'the chunk is listed with two lengths');
      lengths.set(id, rawLength);
    }
    if (lengths.size > MAX_CHUNKS) throw refused('chunks', 'there are too many');
    for (const entry of segment.entries) tree.add(entry);
  }
  tree.finish(segments);
  if (tree.files !== root.counts.files || tree.bytes !== root.counts.bytes) {
    throw refused('counts', 'the entries make other sums');
  }
}

/** Looks at entries in order. */
class TreeCheck {
  files = 0;
  bytes = 0;
  readonly #folders = new Set<string>(['']);
  readonly #linked = new Set<string>();
  #before = '';
  #folder = '';

  add(entry: Entry): void {
    const { path } = entry;
    if (path <= this.#before) throw refused(path, 'it does not come after the path before it');
    this.#before = path;
    const folder = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (folder !== this.#folder && !this.#folders.has(folder)) {
      throw refused(path, 'what it lies in is not a folder listed before it');
    }
    this.#folder = folder;
    if (entry.type === 'dir') this.#folders.add(path);
    if (entry.type === 'hardlink') this.#linked.add(entry.target);
    if (entry.type === 'hardlink' || entry.type === 'file') this.files += 1;
    if (entry.type === 'file') this.bytes += entry.size;
  }

  finish(segments: readonly Segment[]): void {
    if (this.#linked.size === 0) return;
    for (const { entries } of segments) {
      for (const { type, path } of entries) if (type === 'file') this.#linked.delete(path);
    }
    const [missing] = this.#linked;
    if (missing !== undefined) throw refused(missing, 'a hard link leads there, and it is not a file');
  }
}

function refused(what: string, why: string): DumontError {
  return new DumontError('CORRUPT', `the manifest is refused at ${JSON.stringify(what)}: ${why}`);
}
