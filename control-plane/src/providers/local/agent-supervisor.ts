import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';

/** Between restarts: soon enough for a demo, slow enough for a command that can never start. */
const RESTART_BACKOFF = { baseMs: 200, capMs: 5_000 } as const;

/** How long an agent that was asked to end may take. */
const STOP_GRACE_MS = 5_000;

/** An agent that ran this long had started well: its next failure counts as a first one. */
const STABLE_AFTER_MS = 30_000;

export interface AgentCommand {
  readonly command: readonly string[];
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Standard output and error are appended here. */
  readonly logPath: string;
}

/**
 * Keeps the agent running: starts it again when it fails, and returns when it ended on purpose (exit code 0) or the
 * signal aborted, after the agent was asked to end and did.
 */
export async function superviseAgent(
  agent: AgentCommand,
  options: { readonly clock: Clock; readonly random: Random; readonly signal: AbortSignal },
): Promise<void> {
  const { clock, random, signal } = options;
  let failures = 0;
  while (!signal.aborted) {
    const startedMs = clock.monotonicMs();
    const exitCode = await runOnce(agent, clock, signal);
    if (exitCode === 0 || signal.aborted) return;
    if (clock.monotonicMs() - startedMs >= STABLE_AFTER_MS) failures = 0;
    await sleepUnlessAborted(clock, backoffMs(failures, RESTART_BACKOFF, random), signal);
    failures += 1;
  }
}

/** One run of the agent. @returns its exit code, null when a signal ended it or it could not be started */
async function runOnce(agent: AgentCommand, clock: Clock, signal: AbortSignal): Promise<number | null> {
  const [file = '', ...args] = agent.command;
  const log = await open(agent.logPath, 'a', 0o600);
  try {
    const child = spawn(file, args, {
      cwd: agent.cwd,
      env: { ...agent.environment },
      stdio: ['ignore', log.fd, log.fd],
    });
    let cancelKill = () => {};
    const stop = () => {
      child.kill('SIGTERM');
      cancelKill = clock.after(STOP_GRACE_MS, () => child.kill('SIGKILL'));
    };
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    try {
      const [code] = (await once(child, 'exit')) as [number | null];
      return code;
    } catch (error) {
      await log.write(`cannot start the agent: ${String(error)}\n`);
      return null;
    } finally {
      signal.removeEventListener('abort', stop);
      cancelKill();
    }
  } finally {
    await log.close();
  }
}

async function sleepUnlessAborted(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
