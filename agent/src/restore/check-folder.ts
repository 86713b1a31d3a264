import { createHash, type Hash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { constants } from 'node:fs';
import { lstat, open, readdir, readlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChunkRow, Entry, FileEntry, Manifest } from '@dumont/shared/format/manifest.ts';
import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import { type FolderCheck, MAX_LISTED_DIFFERENCES } from '@dumont/shared/protocol/trial.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { chunkIdOf, type StoreSecrets } from '../snapshot/seal.ts';
import type { IgnoreRules } from '../workspace/ignore.ts';

export interface CheckFolderOptions {
  readonly root: string;
  readonly manifest: Manifest;
  /** Of an encrypted store, else null: chunk ids are keyed there. */
  readonly secrets: StoreSecrets | null;
  /** What snapshots leave out may lie there. */
  readonly ignore: IgnoreRules;
  readonly clock: Clock;
  readonly onProgress: (done: { readonly bytes: number; readonly files: number }) => void;
  readonly signal: AbortSignal;
}

/**
 * Reads a whole folder back from the disk and holds it against a snapshot's manifest: which paths there are, types,
 * modes, sizes, link targets, and the id of every chunk of content. It shares nothing with the code that restored it but the
 * manifest. Times, owners and attributes are not looked at. Reads only.
 */
export async function checkFolder(options: CheckFolderOptions): Promise<FolderCheck> {
  const { clock, manifest } = options;
  const startMs = clock.monotonicMs();
  const check = new FolderReader(options);
  for (const entry of manifest.entries) await check.entry(entry);
  await check.findStrangers();
  return { ...check.result(), tookMs: clock.monotonicMs() - startMs };
}

class FolderReader {
  readonly #options: CheckFolderOptions;
  readonly #expected: Hash = createHash('sha256');
  readonly #actual: Hash = createHash('sha256');
  readonly #differences: string[] = [];
  readonly #inodes = new Map<string, number>();
  #differenceCount = 0;
  #bytes = 0;
  #files = 0;
  #buffer: Buffer | undefined;

  constructor(options: CheckFolderOptions) {
    this.#options = options;
  }

  async entry(entry: Entry): Promise<void> {
    this.#options.signal.throwIfAborted();
    const should = lineOf(entry, this.#options.manifest.chunks);
    const is = await this.#lineOnDisk(entry);
    this.#expected.update(should);
    this.#actual.update(is);
    if (should !== is) this.#note(`${entry.path}: ${is === '' ? 'missing' : difference(should, is)}`);
  }

  /** Paths that the snapshot does not have. */
  async findStrangers(): Promise<void> {
    const { root, manifest, ignore, signal } = this.#options;
    const known = new Set(manifest.entries.map(({ path }) => path));
    const folders = [''];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      signal.throwIfAborted();
      for (const child of await readdir(join(root, folder), { withFileTypes: true })) {
        const path = folder === '' ? child.name : `${folder}/${child.name}`;
        if (ignore.ignores(path, child.isDirectory())) continue;
        if (known.has(path)) {
          if (child.isDirectory()) folders.push(path);
          continue;
        }
        this.#actual.update(`${path}\0stranger\n`);
        this.#note(`${path}: not in the snapshot`);
      }
    }
  }

  result(): Omit<FolderCheck, 'tookMs'> {
    return {
      ok: this.#differenceCount === 0,
      fileCount: this.#files,
      entryCount: this.#options.manifest.entries.length,
      bytes: this.#bytes,
      expectedTree: this.#expected.digest('hex'),
      actualTree: this.#actual.digest('hex'),
      differenceCount: this.#differenceCount,
      differences: this.#differences,
    };
  }

  #note(difference: string): void {
    this.#differenceCount += 1;
    if (this.#differences.length < MAX_LISTED_DIFFERENCES) this.#differences.push(difference.slice(0, 4_400));
  }

  /** What is on the disk under an entry's path, as {@link lineOf} would say it; empty when nothing is. */
  async #lineOnDisk(entry: Entry): Promise<string> {
    const path = join(this.#options.root, entry.path);
    try {
      const stats = await lstat(path);
      const mode = stats.mode & 0o7777;
      if (entry.type === 'hardlink') return `${entry.path}\0hardlink\0${await this.#linkTarget(entry.target, stats)}\n`;
      if (stats.isSymbolicLink()) return `${entry.path}\0symlink\0${await readlink(path)}\n`;
      if (stats.isDirectory()) return `${entry.path}\0dir\0${mode}\n`;
      if (!stats.isFile() || entry.type !== 'file') return `${entry.path}\0other\0${mode}\n`;
      this.#inodes.set(entry.path, stats.ino);
      const chunkIds = await this.#chunkIds(path, entry);
      return `${entry.path}\0file\0${mode}\0${stats.size}\0${chunkIds.join(' ')}\n`;
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return '';
      throw error;
    }
  }

  /** The target itself where both paths are the same file. */
  async #linkTarget(target: string, stats: Stats): Promise<string> {
    const known = this.#inodes.get(target) ?? (await lstat(join(this.#options.root, target))).ino;
    return known === stats.ino ? target : 'another file';
  }

  async #chunkIds(path: string, entry: FileEntry): Promise<readonly string[]> {
    const { manifest, secrets, signal, onProgress } = this.#options;
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const ids: string[] = [];
      const holes = [...(entry.holes ?? [])];
      let offset = 0;
      for (const row of entry.chunks) {
        signal.throwIfAborted();
        const [, , , , length] = must(manifest.chunks[row], 'a checked manifest uses listed chunks only');
        const bytes = await this.#readChunk(file, { from: offset, length, holes });
        offset = bytes.end;
        ids.push(chunkIdOf(bytes.data, secrets));
        this.#bytes += length;
        onProgress({ bytes: this.#bytes, files: this.#files });
      }
      for (const hole of entry.holes ?? []) if (!(await this.#isEmpty(file, hole))) ids.push(`data at ${hole[0]}`);
      this.#files += 1;
      return ids;
    } finally {
      await file.close();
    }
  }

  /** A hole reads as zeros, whether it is one on this disk or not. */
  async #isEmpty(file: FileHandle, [start, length]: readonly [offset: number, length: number]): Promise<boolean> {
    const buffer = (this.#buffer ??= Buffer.allocUnsafeSlow(MAX_FRAME_RAW_BYTES));
    const zeros = Buffer.alloc(MAX_FRAME_RAW_BYTES);
    for (let done = 0; done < length;) {
      this.#options.signal.throwIfAborted();
      const wanted = Math.min(MAX_FRAME_RAW_BYTES, length - done);
      const { bytesRead } = await file.read(buffer, 0, wanted, start + done);
      if (bytesRead === 0 || !buffer.subarray(0, bytesRead).equals(zeros.subarray(0, bytesRead))) return false;
      done += bytesRead;
    }
    return true;
  }

  /** The next `length` bytes of data at or after `from`: a chunk may reach over holes, which it does not hold. */
  async #readChunk(
    file: FileHandle,
    {
      from,
      length,
      holes,
    }: { readonly from: number; readonly length: number; readonly holes: (readonly [number, number])[] },
  ): Promise<{ readonly data: Uint8Array; readonly end: number }> {
    this.#buffer ??= Buffer.allocUnsafeSlow(MAX_FRAME_RAW_BYTES);
    let offset = from;
    let done = 0;
    while (done < length) {
      const hole = holes[0];
      if (hole !== undefined && hole[0] <= offset) {
        offset = hole[0] + hole[1];
        holes.shift();
        continue;
      }
      const wanted = Math.min(length - done, (hole?.[0] ?? Infinity) - offset);
      const { bytesRead } = await file.read(this.#buffer, done, wanted, offset);
      if (bytesRead === 0) break;
      done += bytesRead;
      offset += bytesRead;
    }
    return { data: this.#buffer.subarray(0, done), end: offset };
  }
}

/** Everything of an entry that is compared, on one line. Pure. */
function lineOf(entry: Entry, chunks: readonly ChunkRow[]): string {
  switch (entry.type) {
    case 'file': {
      const ids = entry.chunks.map((row) => must(chunks[row], 'a checked manifest uses listed chunks only')[0]);
      return `${entry.path}\0file\0${entry.mode}\0${entry.size}\0${ids.join(' ')}\n`;
    }
    case 'dir':
      return `${entry.path}\0dir\0${entry.mode}\n`;
    case 'symlink':
      return `${entry.path}\0symlink\0${entry.target}\n`;
    case 'hardlink':
      return `${entry.path}\0hardlink\0${entry.target}\n`;
  }
}

/** In words what two lines of the same path differ in. Pure. */
function difference(should: string, is: string): string {
  const [, type, ...expected] = should.trimEnd().split('\0');
  const [, actualType, ...actual] = is.trimEnd().split('\0');
  if (type !== actualType) return `is a ${actualType}, should be a ${type}`;
  if (type === 'file' && expected[1] !== actual[1]) return `is ${actual[1]} bytes long, should be ${expected[1]}`;
  if (type === 'file' && expected[2] !== actual[2]) return 'other content';
  if (type === 'symlink' || type === 'hardlink') return `leads to ${actual[0]}, should lead to ${expected[0]}`;
  return `has mode ${Number(actual[0]).toString(8)}, should have ${Number(expected[0]).toString(8)}`;
}
