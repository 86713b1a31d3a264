import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { endRun, RUN_VARIABLE } from './end-run.ts';
import { readProcess } from './process-table.ts';
import { openLog, tailOfLog } from './workload-log.ts';

/** A hook may warm a cache or load a model, but a failover waits for it. */
const HOOK_TIMEOUT_MS = 600_000;

/** A moment at which the user's policy may run a command. */
export type HookName = 'postRestore' | 'preSnapshot' | 'postSnapshot' | 'preStop';

export interface HookOptions {
  /** In the environment as `DUMONT_HOOK`. */
  readonly name: HookName;
  readonly command: string;
  readonly workspaceDir: string;
  readonly environment: Readonly<Record<string, string>>;
  /** The output is appended here. */
  readonly logPath: string;
  readonly clock: Clock;
  readonly timeoutMs?: number;
  readonly signal: AbortSignal;
}

/**
 * Runs a hook by `/bin/sh -c` in the workspace folder and waits for its end. Nothing it started outlives a timeout or
 * an abort.
 * @throws {DumontError} WORKLOAD when it exits with an error, TIMEOUT, ABORTED, IO when it cannot be started
 */
export async function runHook(options: HookOptions): Promise<void> {
  const { name, command, workspaceDir, clock, logPath, signal } = options;
  const timeoutMs = options.timeoutMs ?? HOOK_TIMEOUT_MS;
  signal.throwIfAborted();
  const runId = randomUUID();
  await using log = await openLog(logPath);
  const child = spawn('/bin/sh', ['-c', command], {
    cwd: workspaceDir,
    env: { ...options.environment, DUMONT_HOOK: name, DUMONT_WORKSPACE_DIR: workspaceDir, [RUN_VARIABLE]: runId },
    detached: true,
    stdio: ['ignore', log.fd, log.fd],
  });
  const ended = new Promise<string | null>((resolve, reject) => {
    child.once('error', (error) => {
      reject(
        new DumontError('IO', `cannot start the hook ${name} in ${workspaceDir}: ${error.message}`, { cause: error }),
      );
    });
    child.once('exit', (code, killer) =>
      resolve(code === 0 ? null : killer === null ? `exit code ${code}` : `signal ${killer}`),
    );
  });
  const waiting = new AbortController();
  const cutOff = clock.sleep(timeoutMs, AbortSignal.any([signal, waiting.signal])).then(
    () => 'timeout' as const,
    () => 'aborted' as const,
  );
  try {
    const outcome = await Promise.race([ended.then((failure) => ({ failure })), cutOff]);
    if (typeof outcome === 'string') {
      const pid = child.pid ?? 0;
      await endRun({ pid, startTicks: (await readProcess(pid))?.startTicks ?? 0, runId }, 0, clock);
      if (outcome === 'aborted')
        throw new DumontError('ABORTED', `the hook ${name} was stopped`, { cause: signal.reason });
      throw new DumontError('TIMEOUT', `the hook ${name} did not end within ${timeoutMs} ms: ${command.slice(0, 200)}`);
    }
    if (outcome.failure !== null) {
      const tail = await tailOfLog(logPath);
      throw new DumontError('WORKLOAD', `the hook ${name} ended with ${outcome.failure}: ${tail.slice(-1_500)}`, {
        hint: `Its output is in ${logPath}.`,
      });
    }
  } finally {
    waiting.abort();
  }
}
