import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

/** What a path holds, in one comparable line: type, permissions and content. */
export type PathAccount = string;

/**
 * An independent account of a folder: path → what it holds. Uses nothing of the snapshot engine, so that the two can
 * be held against each other. Paths that vanish meanwhile are left out.
 * @param skip relative paths (with everything below) to leave out
 */
export async function accountOf(root: string, skip: ReadonlySet<string>): Promise<Map<string, PathAccount>> {
  const accounts = new Map<string, PathAccount>();
  const walk = async (folder: string): Promise<void> => {
    for (const entry of await readdir(folder)) {
      const path = join(folder, entry);
      const name = relative(root, path);
      if (skip.has(name)) continue;
      const account = await accountOfPath(path);
      if (account === undefined) continue;
      accounts.set(name, account);
      if (account.startsWith('folder')) await walk(path);
    }
  };
  await walk(root);
  return accounts;
}

/** One path's account, undefined when it does not exist. */
export async function accountOfPath(path: string): Promise<PathAccount | undefined> {
  try {
    const stats = await lstat(path);
    const mode = (stats.mode & 0o7777).toString(8);
    if (stats.isSymbolicLink()) return `link to ${await readlink(path)}`;
    if (stats.isDirectory()) return `folder ${mode}`;
    if (!stats.isFile()) return undefined;
    return `file ${mode} ${stats.size} ${Math.trunc(stats.mtimeMs)} ${await hashFile(path)}`;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Uint8Array);
  return hash.digest('hex');
}
