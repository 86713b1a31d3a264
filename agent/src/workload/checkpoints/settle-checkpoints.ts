import { rename } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import {
  MAX_LISTED_CHECKPOINTS,
  type CheckpointPolicy,
  type CheckpointReport,
} from '@dumont/shared/model/checkpoints.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { findCheckpoints, type Checkpoint } from './find-checkpoints.ts';

/** Of one name; each is one crash in the middle of a write. */
const MAX_SET_ASIDE_NAMES = 100;

export interface SettleOptions {
  /** The workspace's; absent: its defaults. */
  readonly policy?: CheckpointPolicy | undefined;
  /** False only looks, whatever the policy says. */
  readonly mayRename: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes sure that nothing resumes from a half-written checkpoint: finds those of a folder in which nothing runs, renames
 * the incomplete ones to `<name>.incomplete` and tells which whole one is the newest. Nothing is deleted. Idempotent.
 * @param root a restored workspace folder, or that of a standby being promoted
 * @throws {DumontError} IO when the folder cannot be read or something cannot be renamed, LIMIT, ABORTED
 */
export async function settleCheckpoints(root: string, options: SettleOptions): Promise<CheckpointReport> {
  const { policy, mayRename, signal } = options;
  const found = (await findCheckpoints(root, { pattern: policy?.pattern, signal })).toSorted(newestFirst);
  const complete = found.filter(({ reason }) => reason === null);
  const incomplete: CheckpointReport['incomplete'] = [];
  const isWanted = mayRename && (policy?.onIncomplete ?? 'set-aside') === 'set-aside';
  for (const { path, reason, isMarked } of found) {
    if (reason === null) continue;
    // One that says so by its name is nobody's checkpoint, and a download may go on in it.
    const setAsideAs = isWanted && !isMarked ? await setAside(root, path) : null;
    incomplete.push({ path, reason: reason.slice(0, 500), setAsideAs });
  }
  return {
    latest: complete[0]?.path ?? null,
    completeCount: complete.length,
    incompleteCount: incomplete.length,
    incomplete: incomplete.slice(0, MAX_LISTED_CHECKPOINTS),
  };
}

async function setAside(root: string, path: string): Promise<string> {
  for (let number = 1; number <= MAX_SET_ASIDE_NAMES; number += 1) {
    const name = number === 1 ? `${path}.incomplete` : `${path}.incomplete-${number}`;
    if (existsSync(`${root}/${name}`)) continue;
    try {
      await rename(`${root}/${path}`, `${root}/${name}`);
      return name;
    } catch (error) {
      throw toDumontError(error, 'IO', `setting ${path} aside`);
    }
  }
  throw new DumontError('LIMIT', `${path} was set aside ${MAX_SET_ASIDE_NAMES} times already`, {
    hint: 'Remove the files that end with .incomplete.',
  });
}

/** By the time of the last write; files of one moment by their numbers, the higher first. */
function newestFirst(a: Checkpoint, b: Checkpoint): number {
  if (a.mtimeNs !== b.mtimeNs) return a.mtimeNs > b.mtimeNs ? -1 : 1;
  return b.path.localeCompare(a.path, 'en', { numeric: true });
}
