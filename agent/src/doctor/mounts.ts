import { readFile, realpath } from 'node:fs/promises';
import { dirname } from 'node:path';

/** The file system a path lies on. */
export interface Mount {
  readonly point: string;
  readonly type: string;
  readonly options: ReadonlySet<string>;
}

/** Of the path, or of the nearest folder above it that exists; null where the system does not tell. */
export async function mountOf(path: string): Promise<Mount | null> {
  const text = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  return findMount(text, await nearestExisting(path));
}

/** The nearest folder above a path that exists, or the path itself; links resolved. */
export async function nearestExisting(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const real = await realpath(at).catch(() => null);
    if (real !== null) return real;
    if (at === dirname(at)) return '/';
  }
}

/**
 * The entry of /proc/self/mountinfo that holds the path: the longest mount point above it, of several the last.
 * Source: proc_pid_mountinfo(5). Pure.
 */
export function findMount(mountinfo: string, path: string): Mount | null {
  let found: Mount | null = null;
  for (const line of mountinfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ', 2);
    const [, , , , point, options] = left.split(' ');
    if (point === undefined || options === undefined) continue;
    const [type = '', , superOptions = ''] = right.split(' ');
    const at = point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    const isAbove = path === at || path.startsWith(at === '/' ? '/' : `${at}/`);
    if (!isAbove || at.length < (found?.point.length ?? 0)) continue;
    found = { point: at, type, options: new Set([...options.split(','), ...superOptions.split(',')]) };
  }
  return found;
}
