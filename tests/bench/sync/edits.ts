import { randomFillSync } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';

const FILES_PER_FOLDER = 100;
const EDITS_PER_SECOND = 20;
const MAX_EDIT_BYTES = 1024 * 1024;
const TAG_BYTES = 16;
/** An edit that is not seen for so long is not waited for. */
const GIVE_UP_MS = 60_000;
const MIB = 1024 * 1024;

/** Makes a tree of small files. */
export function makeTree(root: string, fileCount: number): void {
  mkdirSync(root);
  for (let index = 0; index < fileCount; index += 1) {
    if (index % FILES_PER_FOLDER === 0) mkdirSync(join(root, `d${index / FILES_PER_FOLDER}`));
    writeFileSync(join(root, pathOf(index)), `file ${index}\n`.repeat(20));
  }
}

/**
 * Overwrites random files of a tree, 20 a second with up to 1 MiB, and looks for them in its copy.
 * @param prefix 4 letters that no other run has
 * @returns ms from the end of each write until the copy's file is the new one, ascending
 */
export async function measureEdits(
  tree: { readonly root: string; readonly copy: string; readonly fileCount: number },
  seconds: number,
  prefix: string,
): Promise<readonly number[]> {
  const random = seededRandom(1);
  const latencies: number[] = [];
  const waiting = new Map<string, { readonly tag: string; readonly atMs: number }>();
  const body = randomFillSync(Buffer.alloc(MAX_EDIT_BYTES));
  const beginMs = systemClock.monotonicMs();
  const endMs = beginMs + seconds * 1_000;
  let nextMs = beginMs;
  for (let count = 0; systemClock.monotonicMs() < endMs || waiting.size > 0;) {
    const nowMs = systemClock.monotonicMs();
    if (nowMs > endMs + GIVE_UP_MS) break;
    if (nowMs >= nextMs && nowMs < endMs) {
      nextMs += 1_000 / EDITS_PER_SECOND;
      const path = pathOf(Math.floor(random.next() * tree.fileCount));
      const tag = prefix + String(count).padStart(TAG_BYTES - prefix.length, '0');
      const length = TAG_BYTES + Math.floor(random.next() * (MAX_EDIT_BYTES - TAG_BYTES));
      body.write(tag, 0, 'latin1');
      body.writeDoubleLE(random.next(), TAG_BYTES);
      writeFileSync(join(tree.root, path), body.subarray(0, length));
      waiting.set(path, { tag, atMs: systemClock.monotonicMs() });
      count += 1;
    }
    for (const [path, { tag, atMs }] of waiting) {
      if (readTag(join(tree.copy, path)) !== tag) continue;
      latencies.push(systemClock.monotonicMs() - atMs);
      waiting.delete(path);
    }
    await sleep(2);
  }
  for (const { atMs } of waiting.values()) latencies.push(systemClock.monotonicMs() - atMs);
  return latencies.toSorted((a, b) => a - b);
}

/** A file of random bytes. */
export function makeCheckpoint(path: string, mib: number): void {
  const file = openSync(path, 'w');
  const part = Buffer.alloc(MIB);
  for (let index = 0; index < mib; index += 1) writeSync(file, randomFillSync(part));
  closeSync(file);
}

/** Rewrites ten ranges of a hundredth each, as an optimizer rewrites some of the tensors. */
export function rewriteTenth(path: string, mib: number): void {
  const file = openSync(path, 'r+');
  const part = Buffer.alloc(Math.floor((mib * MIB) / 100));
  for (let index = 0; index < 10; index += 1) {
    randomFillSync(part);
    writeSync(file, part, 0, part.length, index * 10 * part.length);
  }
  closeSync(file);
}

function pathOf(index: number): string {
  return `d${Math.floor(index / FILES_PER_FOLDER)}/f${index}`;
}

function readTag(path: string): string {
  const bytes = Buffer.alloc(TAG_BYTES);
  try {
    const file = openSync(path, 'r');
    readSync(file, bytes, 0, TAG_BYTES, 0);
    closeSync(file);
  } catch {
    return '';
  }
  return bytes.toString('latin1');
}
