import { chmod, chown, lchown, lutimes, utimes } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { isSameTime } from '../snapshot/draft.ts';

export type EntryWithMetadata = Exclude<Entry, { type: 'hardlink' }>;

/** Sets owner (as root only), mode and modification time of what is at `path`, in the order in which they last. */
export async function applyMetadata(path: string, entry: EntryWithMetadata): Promise<void> {
  const time = seconds(entry.mtimeNs);
  if (entry.type === 'symlink') {
    if (isRoot()) await lchown(path, entry.uid, entry.gid);
    await lutimes(path, time, time);
    return;
  }
  // Changing the owner clears setuid, so the mode comes after it.
  if (isRoot()) await chown(path, entry.uid, entry.gid);
  await chmod(path, entry.mode);
  await utimes(path, time, time);
}

/** True when {@link applyMetadata} would change nothing that is stored. */
export function hasMetadata(stats: BigIntStats, entry: EntryWithMetadata): boolean {
  if (isRoot() && (Number(stats.uid) !== entry.uid || Number(stats.gid) !== entry.gid)) return false;
  if (entry.type !== 'symlink' && Number(stats.mode & 0o7777n) !== entry.mode) return false;
  return isSameTime(stats.mtimeNs, BigInt(entry.mtimeNs));
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/**
 * Node sets times from doubles of seconds: right to within a microsecond. As text, because Node takes a negative number
 * for "now".
 */
function seconds(ns: string): string {
  return String(Number(ns) / 1e9);
}
