import { DumontError } from '../util/errors.ts';
import type { ChunkRow, Entry, Manifest } from './manifest.ts';

/** Longest file name and path of Linux, bytes. */
const MAX_NAME_BYTES = 255;
const MAX_PATH_BYTES = 4_095;

/**
 * Refuses a manifest that could make a reader write outside its folder, write one path twice, or follow a reference
 * into nothing. Pure.
 * @throws {DumontError} CORRUPT naming the first path or row at fault
 */
export function checkManifest(manifest: Manifest): void {
  checkChunks(manifest);
  const byPath = new Map<string, Entry>();
  for (const entry of manifest.entries) {
    const objection = pathObjection(entry.path);
    if (objection !== undefined) throw corrupt(entry.path, objection);
    if (byPath.has(entry.path)) throw corrupt(entry.path, 'it is listed twice');
    const slash = entry.path.lastIndexOf('/');
    if (slash !== -1 && byPath.get(entry.path.slice(0, slash))?.type !== 'dir') {
      throw corrupt(entry.path, 'what it lies in is not a folder listed before it');
    }
    byPath.set(entry.path, entry);
  }
  for (const entry of manifest.entries) checkReferences(entry, byPath, manifest.chunks);
}

/** Why a path must not be used as an entry's, undefined when it is a plain relative one. Pure. */
function pathObjection(path: string): string | undefined {
  if (!path.isWellFormed()) return 'it is not valid Unicode';
  if (path.includes('\0')) return 'it holds a NUL';
  if (path.startsWith('/')) return 'it is absolute';
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) return 'it is too long';
  for (const name of path.split('/')) {
    if (name === '' || name === '.' || name === '..') return 'it holds an empty name, . or ..';
    if (Buffer.byteLength(name) > MAX_NAME_BYTES) return 'it holds a name that is too long';
  }
  return undefined;
}

function checkChunks(manifest: Manifest): void {
  const seen = new Set<string>();
  for (const [id, pack] of manifest.chunks) {
    if (pack >= manifest.packs.length) throw corrupt(id, 'the chunk lies in a pack that is not listed');
    if (seen.has(id)) throw corrupt(id, 'the chunk is listed twice');
    seen.add(id);
  }
}

function checkReferences(entry: Entry, byPath: ReadonlyMap<string, Entry>, chunks: readonly ChunkRow[]): void {
  switch (entry.type) {
    case 'file': {
      let size = holeBytes(entry);
      for (const row of entry.chunks) {
        const chunk = chunks[row];
        if (chunk === undefined) throw corrupt(entry.path, 'it uses a chunk that is not listed');
        size += chunk[4];
      }
      if (size !== entry.size)
        throw corrupt(entry.path, `its chunks and holes hold ${size} bytes, it says ${entry.size}`);
      return;
    }
    case 'hardlink':
      if (byPath.get(entry.target)?.type !== 'file') throw corrupt(entry.path, 'it links to what is not a file');
      return;
    case 'symlink':
      if (entry.target.includes('\0') || !entry.target.isWellFormed())
        throw corrupt(entry.path, 'its target is no path');
      return;
    case 'dir':
      return;
  }
}

/** Holes are ascending, apart from each other and inside the file. */
function holeBytes(entry: Extract<Entry, { type: 'file' }>): number {
  let [end, sum] = [-1, 0];
  for (const [offset, length] of entry.holes ?? []) {
    if (offset <= end || offset + length > entry.size) throw corrupt(entry.path, 'its holes overlap or leave it');
    end = offset + length;
    sum += length;
  }
  return sum;
}

function corrupt(what: string, why: string): DumontError {
  return new DumontError('CORRUPT', `the manifest is refused at ${JSON.stringify(what)}: ${why}`);
}
