import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { link, mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import {
  assertKey,
  assertObjectSize,
  assertPrefix,
  throwIfAborted,
  type CallOptions,
  type GetOptions,
  type ObjectInfo,
  type ObjectStat,
  type ObjectStore,
  type PutOptions,
} from './object-store.ts';

/** Keys never start a name with a dot, so a half-written object is never listed or read. */
const TEMP_PREFIX = '.tmp-';

/**
 * Objects as files below a folder, for one computer, a mounted volume, tests and the demo. An object is written to a
 * temporary name in its own folder, flushed, and put in place by one rename or link, then the folder is flushed: a crash
 * leaves the object whole or absent.
 */
export class FileStore implements ObjectStore {
  readonly #root: string;
  readonly #isMount: boolean;

  /**
   * @param root created with the first object; but a mount, which comes and goes, never is: while it is not there every
   * call fails with UNAVAILABLE, for an object written below a bare mount point would be lost
   */
  constructor(root: string, options: { readonly isMount: boolean } = { isMount: false }) {
    this.#root = resolve(root);
    this.#isMount = options.isMount;
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    assertKey(key);
    assertObjectSize(key, bytes.length);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    const folder = dirname(path);
    const temporary = join(folder, `${TEMP_PREFIX}${randomUUID()}`);
    try {
      await (this.#isMount ? makeFolderBelow(this.#root, folder) : makeFolder(folder));
      await writeFlushed(temporary, bytes);
      if (options.ifAbsent === true) {
        if (!(await linkUnlessThere(temporary, path))) return 'exists';
      } else {
        await rename(temporary, path);
      }
      await flushFolder(folder);
      return 'stored';
    } catch (error) {
      if (isAbsence(error)) await this.#requireMount();
      throw toDumontError(error, 'IO', `writing object ${key} below ${this.#root}`);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    assertKey(key);
    throwIfAborted(options.signal);
    let file: FileHandle | undefined;
    try {
      file = await open(join(this.#root, key), constants.O_RDONLY | constants.O_NONBLOCK);
      const stats = await file.stat();
      if (!stats.isFile()) throw notFound(key);
      const { offset, length } = options.range ?? { offset: 0, length: stats.size };
      if (options.range === undefined) assertObjectSize(key, length);
      const bytes = Buffer.allocUnsafeSlow(length);
      let done = 0;
      while (done < length) {
        const { bytesRead } = await file.read(bytes, done, length - done, offset + done);
        if (bytesRead === 0) throw new DumontError('CORRUPT', `object ${key} ends before byte ${offset + length}`);
        done += bytesRead;
      }
      return bytes;
    } catch (error) {
      if (isAbsence(error)) await this.#requireMount();
      throw isAbsence(error) ? notFound(key) : toDumontError(error, 'IO', `reading object ${key} below ${this.#root}`);
    } finally {
      await file?.close();
    }
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectStat | null> {
    assertKey(key);
    throwIfAborted(options.signal);
    try {
      const stats = await stat(join(this.#root, key));
      return stats.isFile() ? { sizeBytes: stats.size } : null;
    } catch (error) {
      if (isAbsence(error)) await this.#requireMount();
      if (isAbsence(error)) return null;
      throw toDumontError(error, 'IO', `looking at object ${key} below ${this.#root}`);
    }
  }

  list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    return this.#walk(prefix.slice(0, prefix.lastIndexOf('/') + 1), prefix, options.signal);
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    assertKey(key);
    throwIfAborted(options.signal);
    try {
      await rm(join(this.#root, key), { force: true });
      await this.#requireMount();
    } catch (error) {
      if (!isAbsence(error)) throw toDumontError(error, 'IO', `deleting object ${key} below ${this.#root}`);
    }
  }

  /** An absent object says nothing while its whole store is absent. */
  async #requireMount(): Promise<void> {
    if (!this.#isMount || (await stat(this.#root).catch(() => null)) !== null) return;
    throw new DumontError('UNAVAILABLE', `the object store is not mounted at ${this.#root}`, { retryable: true });
  }

  /** Depth first with folders compared as `name/`: exactly the ascending order of whole keys. */
  async *#walk(folder: string, prefix: string, signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo> {
    throwIfAborted(signal);
    const found = await readdir(join(this.#root, folder), { withFileTypes: true }).catch(async (error: unknown) => {
      if (isAbsence(error)) await this.#requireMount();
      if (isAbsence(error)) return [];
      throw toDumontError(error, 'IO', `listing ${folder} below ${this.#root}`);
    });
    const names = found
      .filter((entry) => !entry.name.startsWith('.') && (entry.isDirectory() || entry.isFile()))
      .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .toSorted((a, b) => (a < b ? -1 : 1));
    for (const name of names) {
      const key = folder + name;
      if (name.endsWith('/')) {
        if (key.startsWith(prefix) || prefix.startsWith(key)) yield* this.#walk(key, prefix, signal);
      } else if (key.startsWith(prefix)) {
        const found = await stat(join(this.#root, key)).catch(() => null);
        if (found !== null) yield { key, sizeBytes: found.size, modifiedMs: Math.floor(found.mtimeMs) };
      }
    }
  }
}

/** False when something is at `path` already; atomic. */
async function linkUnlessThere(from: string, path: string): Promise<boolean> {
  try {
    await link(from, path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function writeFlushed(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o644);
  try {
    // One call for a whole pack: writeFile would cut it into pieces of half a megabyte.
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done);
      done += bytesWritten;
    }
    // The bytes and their length; the times of a file that nobody has a name for yet do not matter.
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** Makes the folder and flushes each folder that got a new name in it. */
async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true });
  if (first === undefined) return;
  for (let made = folder; made.length >= first.length; made = dirname(made)) await flushFolder(dirname(made));
}

/** The same level by level: a recursive mkdir would make the mount point itself in the moment the mount goes. */
async function makeFolderBelow(root: string, folder: string): Promise<void> {
  let parent = root;
  const names = relative(root, folder).split(sep);
  for (const name of names.filter((each) => each !== '')) {
    const path = join(parent, name);
    try {
      await mkdir(path);
      await flushFolder(parent);
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    }
    parent = path;
  }
}

async function flushFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isAbsence(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR';
}

function notFound(key: string): DumontError {
  return new DumontError('NOT_FOUND', `there is no object ${key}`);
}
