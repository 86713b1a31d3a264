import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { type Addon, assetBytes } from './assets.ts';

/** Of Linux, on every architecture; Node does not name it. A file that never has a name. */
const O_TMPFILE = 0o20_000_000 | constants.O_DIRECTORY;

/**
 * Loads a native module that the executable holds; the system's loader takes files only. It gets one without a name, in
 * the first folder that is writable and lets files be executed, so nothing stays on disk however the process ends. Threads
 * started later load the same file: code and tables are in memory once.
 * Only the executable calls it: its build puts the call in the place of the packages' own search.
 * @public
 * @throws {DumontError} UNSUPPORTED when no folder serves
 */
export function loadAddon(addon: Addon): unknown {
  const key = `dumont-addon-${addon}`;
  const known = getEnvironmentData(key);
  if (typeof known === 'string') return open(known);
  const bytes = assetBytes(`${addon}.node`);
  const failures: string[] = [];
  for (const folder of candidateFolders()) {
    for (const load of [loadNameless, loadFromPrivateFolder]) {
      try {
        const { exports, path } = load(folder, bytes);
        if (path !== null) setEnvironmentData(key, path);
        return exports;
      } catch (error) {
        failures.push(toDumontError(error, 'IO', folder).message);
      }
    }
  }
  throw new DumontError('UNSUPPORTED', `cannot load the native module ${addon}: ${failures.join('; ')}`, {
    hint: 'It needs one writable folder whose mount allows execution: set TMPDIR to such a folder.',
  });
}

/** In memory first. A container's /dev/shm is often noexec; where this executable lies files can be executed. */
function candidateFolders(): readonly string[] {
  return [...new Set(['/dev/shm', tmpdir(), '/var/tmp', dirname(process.execPath)])];
}

interface Loaded {
  readonly exports: unknown;
  /** Where other threads find it; null when it is gone. */
  readonly path: string | null;
}

/** The descriptor stays open with the process: a number given to another file would make the loader confuse the two. */
function loadNameless(folder: string, bytes: Buffer): Loaded {
  const descriptor = openSync(folder, O_TMPFILE | constants.O_RDWR, 0o700);
  try {
    for (let written = 0; written < bytes.length;) written += writeSync(descriptor, bytes, written);
    const path = `/proc/self/fd/${descriptor}`;
    return { exports: open(path), path };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** For filesystems without nameless files, and where /proc is not mounted. */
function loadFromPrivateFolder(folder: string, bytes: Buffer): Loaded {
  const own = mkdtempSync(join(folder, 'dumont-'));
  try {
    const path = join(own, 'addon.node');
    writeFileSync(path, bytes, { mode: 0o700 });
    return { exports: open(path), path: null };
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

function open(path: string): unknown {
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, path);
  return module.exports;
}
