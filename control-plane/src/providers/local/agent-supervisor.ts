import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { UPGRADE_DEADLINE_MS, type UpgradeNote } from '@dumont/shared/node/upgrade-note.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { UpgradeWatch, type Installation } from './upgrade-watch.ts';

/** Between restarts: soon enough for a demo, slow enough for a command that can never start. */
const RESTART_BACKOFF = { baseMs: 200, capMs: 5_000 } as const;

/** The control plane refused the agent's credential: only an operator changes that. */
const REFUSED_RETRY_MS = 60_000;

/** How long an agent that was asked to end may take. */
const STOP_GRACE_MS = 5_000;

/** An agent that ran this long had started well: its next failure counts as a first one. */
const STABLE_AFTER_MS = 30_000;

/** What `dumont-agent run` tells by its exit code. */
const EXIT = { done: 0, restart: 75, refused: 77 } as const;

export interface AgentCommand {
  readonly command: readonly string[];
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Standard output and error are appended here. */
  readonly logPath: string;
  /** Where the agent installs other versions of itself; absent: it does not. */
  readonly installation?: Installation;
}

export interface SuperviseOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** How long a new version has to be welcomed; UPGRADE_DEADLINE_MS by default. */
  readonly upgradeDeadlineMs?: number;
  readonly signal: AbortSignal;
}

/**
 * Keeps the agent running: starts it again when it fails or wants to be restarted, switches back from a new version
 * that does not come up, and returns when the agent ended on purpose (exit code 0) or the signal aborted, after the
 * agent was asked to end and did. Never touches the workload.
 */
export async function superviseAgent(agent: AgentCommand, options: SuperviseOptions): Promise<void> {
  const { clock, random, signal } = options;
  const watch = agent.installation === undefined ? null : new UpgradeWatch(agent.installation);
  let failures = 0;
  while (!signal.aborted) {
    const startedMs = clock.monotonicMs();
    const exitCode = await runWatched(agent, watch, options);
    if (exitCode === EXIT.done || signal.aborted) return;
    if (exitCode === EXIT.restart || exitCode === 'rolled-back') {
      failures = 0;
      continue;
    }
    if (clock.monotonicMs() - startedMs >= STABLE_AFTER_MS) failures = 0;
    const waitMs = exitCode === EXIT.refused ? REFUSED_RETRY_MS : backoffMs(failures, RESTART_BACKOFF, random);
    await sleepUnlessAborted(clock, waitMs, signal);
    failures += 1;
  }
}

/** One run, under the eyes of an upgrade that is pending. */
async function runWatched(
  agent: AgentCommand,
  watch: UpgradeWatch | null,
  options: SuperviseOptions,
): Promise<number | null | 'rolled-back'> {
  const { clock, signal, upgradeDeadlineMs = UPGRADE_DEADLINE_MS } = options;
  const pending = (await watch?.pending()) ?? null;
  if (watch === null || pending === null) return runOnce(agent, clock, { stop: signal });
  const overdue = new AbortController();
  let late: UpgradeNote | null = null;
  const cancel = clock.after(upgradeDeadlineMs, () => {
    void watch.pending().then((note) => {
      late = note;
      if (note !== null) overdue.abort();
    });
  });
  const exitCode = await runOnce(agent, clock, { stop: signal, kill: overdue.signal });
  cancel();
  if (late !== null) {
    await watch.rollBack(late, `it was not welcomed within ${upgradeDeadlineMs} ms`);
    return 'rolled-back';
  }
  const isCrash = exitCode !== EXIT.done && exitCode !== EXIT.restart && !signal.aborted;
  const still = isCrash ? await watch.pending() : null;
  if (still === null || !watch.crashed()) return exitCode;
  await watch.rollBack(still, `it ended with ${exitCode === null ? 'a signal' : `exit code ${exitCode}`} twice`);
  return 'rolled-back';
}

/** One run of the agent. @returns its exit code, null when a signal ended it or it could not be started */
async function runOnce(
  agent: AgentCommand,
  clock: Clock,
  signals: { readonly stop: AbortSignal; readonly kill?: AbortSignal },
): Promise<number | null> {
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
    const kill = () => void child.kill('SIGKILL');
    signals.stop.addEventListener('abort', stop, { once: true });
    signals.kill?.addEventListener('abort', kill, { once: true });
    if (signals.stop.aborted) stop();
    try {
      const [code] = (await once(child, 'exit')) as [number | null];
      return code;
    } catch (error) {
      await log.write(`cannot start the agent: ${String(error)}\n`);
      return null;
    } finally {
      signals.stop.removeEventListener('abort', stop);
      signals.kill?.removeEventListener('abort', kill);
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
