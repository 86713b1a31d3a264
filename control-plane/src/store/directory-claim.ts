import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';

/**
 * Makes this process the only user of a data directory. The claim names pid and start time, so one left by a killed
 * process is recognised and taken over.
 * @throws {DumontError} CONFLICT while the owner lives.
 */
export async function claimDirectory(directory: string): Promise<AsyncDisposable> {
  const path = join(directory, 'owner.pid');
  const mine = `${process.pid} ${await processStartTime(process.pid)}`;
  for (let attempt = 0; attempt < MAX_CLAIM_ATTEMPTS; attempt += 1) {
    try {
      await using file = await open(path, 'wx', 0o600);
      await file.writeFile(mine);
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      if (systemErrorCode(error) !== 'EEXIST') throw error;
    }
    const owner = await readFile(path, 'utf8').catch(() => '');
    const [pid, startTime] = owner.split(' ');
    if (pid !== undefined && startTime !== undefined && (await processStartTime(Number(pid))) === startTime) {
      throw new DumontError('CONFLICT', `the data directory ${directory} is in use by process ${pid}`, {
        field: 'DUMONT_DATA_DIR',
        hint: 'Stop the other control plane, or give this one another directory.',
      });
    }
    await rm(path, { force: true });
  }
  throw new DumontError('CONFLICT', `could not claim the data directory ${directory}`, { field: 'DUMONT_DATA_DIR' });
}

/** Two processes that start together may each remove a stale claim once; more rounds mean something else is wrong. */
const MAX_CLAIM_ATTEMPTS = 5;

/** Start time of a process in clock ticks since boot, from /proc; `gone` without such a process, `unknown` elsewhere. */
async function processStartTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The command name, in parentheses, may contain spaces: count the fields after it. Start time is field 22 of the line.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 'unknown';
  } catch {
    return process.platform === 'linux' ? 'gone' : 'unknown';
  }
}
