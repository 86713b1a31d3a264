import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { lstat, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemClock } from '@dumont/shared/util/clock.ts';

/** A program to run. */
export interface Command {
  readonly argv: readonly string[];
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

export interface Measured {
  readonly wallMs: number;
  /** User and system time of the process and all it waited for. */
  readonly cpuMs: number;
  /** Of the largest process. */
  readonly peakRssBytes: number;
}

/** The `time` command of GNU, which alone tells the peak memory of a process of another. */
export const GNU_TIME = '/usr/bin/time';

/**
 * Runs a program to its end, alone: what earlier ones left to write is on the disk before it starts.
 * @param scratch a file to use
 * @throws with its output when it fails
 */
export async function runMeasured({ argv, cwd, env }: Command, scratch: string): Promise<Measured> {
  spawnSync('sync');
  const begunMs = systemClock.monotonicMs();
  const child = spawn(GNU_TIME, ['-q', '-o', scratch, '-f', '%U %S %M', ...argv], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output = (output + text).slice(-4_000)));
  }
  const [code] = (await once(child, 'close')) as [number | null];
  const wallMs = systemClock.monotonicMs() - begunMs;
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}:\n${output}`);
  const [user = NaN, system = NaN, peakKib = NaN] = (await readFile(scratch, 'utf8')).trim().split(' ').map(Number);
  await rm(scratch);
  return { wallMs, cpuMs: (user + system) * 1_000, peakRssBytes: peakKib * 1_024 };
}

/** Bytes of all files below a folder; 0 when there is none. */
export async function bytesBelow(folder: string): Promise<number> {
  const found = await readdir(folder, { withFileTypes: true, recursive: true }).catch(() => []);
  let total = 0;
  for (const entry of found) if (entry.isFile()) total += (await lstat(join(entry.parentPath, entry.name))).size;
  return total;
}

export function isOnPath(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

/** The middle one; of an even number the mean of both. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = NaN, high = NaN] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return (low + high) / 2;
}
