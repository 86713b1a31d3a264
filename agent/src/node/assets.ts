import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getRawAsset, isSea } from 'node:sea';
import { Worker, type WorkerOptions } from 'node:worker_threads';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';

/** Files that are read at run time: their name, and where in the repository they lie. The executable holds each of them. */
export const ASSET_FILES = {
  'find-cut.wasm': 'agent/src/snapshot/cdc/find-cut.wasm',
  'codec-kernel.wasm': 'agent/src/snapshot/planes/codec-kernel.wasm',
  'supervisor.sh': 'install/supervisor.sh',
  'install.sh': 'install/install.sh',
} as const;

/** Scripts of worker threads, likewise; in the executable each is one bundle with all it imports. */
export const THREAD_FILES = {
  link: 'agent/src/link/link-thread.ts',
  write: 'agent/src/snapshot/writing/write-thread.ts',
  restore: 'agent/src/restore/writer-thread.ts',
} as const;

/** The native modules, of which only the executable reads the `.node` file here: elsewhere their packages find it. */
export const ADDONS = ['blake-hash', 'xattr'] as const;

export type ThreadName = keyof typeof THREAD_FILES;
export type Addon = (typeof ADDONS)[number];
type AssetName = keyof typeof ASSET_FILES | `${Addon}.node`;

/** True in the single executable, false when the agent runs from its sources. */
export const isExecutable: boolean = isSea();

/**
 * The bytes of an asset. They are only to be read: in the executable they are a view of its memory, which cannot be
 * written to.
 * @throws {DumontError} NOT_FOUND when it was not built in, IO when its file cannot be read
 */
export function assetBytes(name: AssetName): Buffer {
  return isExecutable ? embedded(name) : readFromTree(name);
}

/** Starts a worker thread on one of our scripts; {@link WorkerOptions} as ever, but for `eval`. */
export function startThread(name: ThreadName, options: Omit<WorkerOptions, 'eval'>): Worker {
  if (!isExecutable) return new Worker(join(repositoryRoot(), THREAD_FILES[name]), options);
  return new Worker(embedded(threadAsset(name)).toString('utf8'), { ...options, eval: true });
}

/** Under which name a thread's bundle lies in the executable. */
export function threadAsset(name: ThreadName): string {
  return `${name}-thread.js`;
}

function embedded(name: string): Buffer {
  try {
    return Buffer.from(getRawAsset(name));
  } catch (error) {
    throw new DumontError('NOT_FOUND', `this executable holds no asset ${name}`, { cause: error });
  }
}

function readFromTree(name: AssetName): Buffer {
  const file = ASSET_FILES[name as keyof typeof ASSET_FILES];
  if (file === undefined) throw new DumontError('NOT_FOUND', `${name} lies in its package, not in the source tree`);
  try {
    return readFileSync(join(repositoryRoot(), file));
  } catch (error) {
    throw toDumontError(error, 'IO', `reading ${file}`);
  }
}

/** Only where the agent runs from its sources: this file lies three folders below it. */
function repositoryRoot(): string {
  return join(import.meta.dirname, '../../..');
}
