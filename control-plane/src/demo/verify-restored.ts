import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { TRAINING_FOLDER } from './stage.ts';
import type { PathAccount } from './tree-account.ts';
import { accountOf, accountOfPath } from './tree-account.ts';
import type { SeenCheckpoint } from './witness.ts';

/** What was promised: everything finished before the restored snapshot began. */
export interface Promised {
  /** The workspace as it was put on the first machine. */
  readonly original: ReadonlyMap<string, PathAccount>;
  readonly checkpoints: readonly SeenCheckpoint[];
  /** Everything the witness read of the log. */
  readonly log: Buffer;
  /** Wall time at which the restored snapshot began to read. */
  readonly snapshotStartedAtMs: number;
}

export interface Verification {
  readonly filesVerified: number;
  /** One line per broken promise; empty when all were kept. */
  readonly wrong: readonly string[];
  /** The checkpoint the workload went on from, and its own account of when; null when it never said. */
  readonly resumedFrom: string | null;
  readonly resumedAtMs: number | null;
  /** Steps done before the loss and done again after it. */
  readonly stepsRepeated: number;
}

/** Holds the restored workspace against what was promised. Reads only. */
export async function verifyRestored(root: string, promised: Promised): Promise<Verification> {
  const wrong: string[] = [];
  let filesVerified = 0;
  const check = (path: string, is: PathAccount | undefined, should: PathAccount) => {
    if (is === should) filesVerified += 1;
    else wrong.push(`${path}: ${is === undefined ? 'missing' : `is ${is}, should be ${should}`}`);
  };
  const now = await accountOf(root, new Set([TRAINING_FOLDER]));
  for (const [path, should] of promised.original) check(path, now.get(path), should);
  for (const path of now.keys()) if (!promised.original.has(path)) wrong.push(`${path}: should not exist`);
  const due = promised.checkpoints.filter(({ completedAtMs }) => completedAtMs < promised.snapshotStartedAtMs);
  for (const { path, account } of due) check(path, await accountOfPath(join(root, path)), account);

  const log = await readFile(join(root, TRAINING_FOLDER, 'logs', 'train.log'));
  const owed = logBefore(promised.log, promised.snapshotStartedAtMs);
  if (log.subarray(0, owed.length).equals(owed)) filesVerified += 1;
  else wrong.push(`${TRAINING_FOLDER}/logs/train.log: its first ${owed.length} bytes are not those written before`);

  const resumed = lastResume(log.toString('utf8'));
  const known = promised.checkpoints.some(({ path }) => resumed !== undefined && path.endsWith(resumed.checkpoint));
  if (resumed === undefined) wrong.push('the workload did not go on from a checkpoint');
  else if (!known) wrong.push(`the workload went on from ${resumed.checkpoint}, which it had not written before`);
  return {
    filesVerified,
    wrong,
    resumedFrom: resumed?.checkpoint ?? null,
    resumedAtMs: resumed?.atMs ?? null,
    stepsRepeated: resumed === undefined ? 0 : Math.max(0, lastStep(promised.log) - stepOf(resumed.checkpoint)),
  };
}

/** The whole lines whose own time is before `beforeMs`: their writer had finished them by then. */
function logBefore(log: Buffer, beforeMs: number): Buffer {
  let end = 0;
  for (let next = log.indexOf(0x0a); next !== -1; next = log.indexOf(0x0a, end)) {
    // A line carries the time just before it was written; a millisecond may pass until it is in the file.
    if (Number(log.subarray(end, next).toString('utf8').split(' ', 1)[0]) >= beforeMs - WRITE_LATENCY_MS) break;
    end = next + 1;
  }
  return log.subarray(0, end);
}

const WRITE_LATENCY_MS = 50;

function lastResume(log: string): { readonly checkpoint: string; readonly atMs: number } | undefined {
  const match = [...log.matchAll(/^(\d+) resumed from (\S+)$/gm)].at(-1);
  const [, atMs, checkpoint] = match ?? [];
  return atMs === undefined || checkpoint === undefined ? undefined : { checkpoint, atMs: Number(atMs) };
}

function lastStep(log: Buffer): number {
  const match = [...log.toString('utf8').matchAll(/^\d+ step (\d+) /gm)].at(-1);
  return Number(match?.[1] ?? 0);
}

function stepOf(checkpoint: string): number {
  return Number(/(\d+)/.exec(checkpoint)?.[1] ?? 0);
}
