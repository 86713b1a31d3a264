import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { noise } from '../../bench/engine/content.ts';
import { random32 } from '../../world/random32.ts';

/** Content by path, with `/` between names. */
export type TrialTree = ReadonlyMap<string, Buffer>;

/** A file that grows while snapshots are taken; a restored one must be a prefix of {@link liveLog}. */
export const LIVE_LOG = 'live.log';

const MIB = 1024 * 1024;
const FILES = 24;
const LARGE_FILES = 3;
const LARGE_BYTES = 12 * MIB;

/**
 * What the folder of a trial holds at a step, from 1: each step rewrites some files of the one before, adds some and
 * removes some. A heavy tree has more than two packs of new bytes in its first step. Pure.
 */
export function treeAt(seed: number, step: number, isHeavy: boolean): TrialTree {
  const tree = new Map<string, Buffer>();
  for (let index = 0; index < FILES; index += 1) {
    const version = versionAt(seed * 1_000 + index, step);
    if (version.isAbsent) continue;
    const random = seededRandom(version.seed);
    const size = Math.floor(random.next() ** 6 * 700_000);
    tree.set(`folder-${index % 5}/file-${index}`, noise(size, random32(version.seed)));
  }
  if (!isHeavy) return tree;
  for (let index = 0; index < LARGE_FILES; index += 1) {
    // Only one of them changes after the first step.
    const version = index === 0 ? step : 1;
    tree.set(`large/${index}.bin`, noise(LARGE_BYTES, random32(seed * 1_000 + 500 + index * 50 + version)));
  }
  return tree;
}

/** A file changes in about a third of the steps, and is away in some. */
function versionAt(fileSeed: number, step: number): { readonly seed: number; readonly isAbsent: boolean } {
  let changedAt = 1;
  const random = seededRandom(fileSeed);
  for (let at = 1; at <= step; at += 1) if (random.next() < 0.35) changedAt = at;
  const seed = fileSeed * 10 + changedAt;
  return { seed, isAbsent: seededRandom(seed).next() < 0.15 };
}

/** The first lines of the live log, as many bytes as asked for. Pure. */
export function liveLog(lengthBytes: number): Buffer {
  const lines: string[] = [];
  for (let line = 0, length = 0; length < lengthBytes; line += 1) {
    lines.push(liveLine(line));
    length += liveLine(line).length;
  }
  return Buffer.from(lines.join('')).subarray(0, lengthBytes);
}

export function liveLine(line: number): string {
  return `line ${line} of a log that grows while it is read\n`;
}

/** Makes the folder hold the tree, writing and removing only what differs from `before`. */
export async function applyTree(root: string, before: TrialTree, tree: TrialTree): Promise<void> {
  for (const path of before.keys()) if (!tree.has(path)) await rm(join(root, path));
  for (const [path, content] of tree) {
    if (before.get(path)?.equals(content) === true) continue;
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  await appendFile(join(root, LIVE_LOG), '');
}

/** All files below a folder. */
export async function readTrialTree(root: string): Promise<TrialTree> {
  const tree = new Map<string, Buffer>();
  for (const entry of await readdir(root, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) tree.set(path.slice(root.length + 1), await readFile(path));
  }
  return tree;
}

/** What tells a restored tree from what it must be, one line per path; the live log may be any prefix of itself. Pure. */
export function treeProblems(found: TrialTree, expected: TrialTree): readonly string[] {
  const problems: string[] = [];
  for (const path of new Set([...found.keys(), ...expected.keys()])) {
    if (path === LIVE_LOG) continue;
    const [one, other] = [found.get(path), expected.get(path)];
    if (one === undefined) problems.push(`${path} is missing`);
    else if (other === undefined) problems.push(`${path} should not be there`);
    else if (!one.equals(other)) problems.push(`${path} has other bytes`);
  }
  const log = found.get(LIVE_LOG);
  if (log === undefined) problems.push(`${LIVE_LOG} is missing`);
  else if (!log.equals(liveLog(log.length))) problems.push(`${LIVE_LOG} is not a prefix of what was written`);
  return problems;
}
