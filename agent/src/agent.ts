import { randomUUID } from 'node:crypto';
import { availableParallelism, hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Command } from '@dumont/shared/protocol/command.ts';
import type { Assignment, Hello } from '@dumont/shared/protocol/hello.ts';
import { PROTOCOL_VERSION } from '@dumont/shared/protocol/version.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { AgentConfig } from './config.ts';
import { GpuSampler } from './host/gpu-sampler.ts';
import { SampleLoop } from './host/sample-loop.ts';
import { CommandDesk } from './lease/command-desk.ts';
import type { Duty } from './lease/duty.ts';
import type { OpenEngine } from './lease/engine.ts';
import { GpuDuty } from './lease/gpu-duty.ts';
import { StandbyDuty } from './lease/standby-duty.ts';
import { StateFile } from './lease/state-file.ts';
import { BeatBoard } from './link/beat-board.ts';
import { ControlLink, type LinkListener } from './link/control-link.ts';
import type { LinkEnd } from './link/link-end.ts';
import type { LinkState } from './link/link-state.ts';
import type { LinkTrouble } from './link/thread-messages.ts';
import { AGENT_VERSION } from './version.ts';

/** Twice per beat at the default interval, so that each beat sees a fresh sign of life. */
const PULSE_MS = 100;
/** Preemption notices leave 30 s (Google) down to a few; the last snapshot must fit with room to close. */
const LAST_WORDS_MS = 8_000;

export interface AgentParts {
  readonly config: AgentConfig;
  readonly openEngine: OpenEngine;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/**
 * Runs the agent until the signal asks it to stop (a preemption notice: the newest data is saved first) or the control
 * plane ends it. Runs nothing of the user's before it was welcomed; goes on through any outage of the control plane.
 * @throws {DumontError} UNAUTHORIZED when refused, CONFLICT when a newer agent process took over, IO for its state
 * @returns after a stop or a release, with everything closed
 */
export async function runAgent(parts: AgentParts, signal: AbortSignal): Promise<void> {
  const { config, clock, random, log } = parts;
  const { workspaceDir } = config;
  const stateFile = await StateFile.open(join(config.stateDir, 'agent.json'));
  const board = new BeatBoard();
  const listener = new AgentListener(stateFile, log);
  const hello = helloOf(config, stateFile.state.highestEpoch);
  await using gpus = new GpuSampler({ command: config.nvidiaSmi, clock, random, log });
  await using link = new ControlLink({ url: config.socketUrl, hello, board, clock, listener });
  await using duty = dutyOf(parts, stateFile, link);
  const desk = new CommandDesk({
    perform: (action, options) => duty.perform(action, options),
    send: (message) => link.send(message),
    clock,
  });
  // Events of the link come through the event loop, so none is delivered before this.
  listener.attach(duty, desk);
  gpus.start();
  const isOnline = () => link.state === 'online';
  await using _samples = new SampleLoop({
    workspaceDir,
    gpus,
    isOnline,
    clock,
    log,
    send: (sample) => link.send(sample),
  });
  const cancelPulse = clock.every(PULSE_MS, () => {
    const gpuUtilPct = gpus.utilPct();
    const behind = duty.standbyBehind();
    board.write({
      epoch: listener.epochNow,
      gpuUtilPct,
      unsavedMs: duty.unsavedMs(),
      workload: duty.workloadState,
      standbyBehindBytes: behind?.pendingBytes,
      standbyBehindMs: behind?.pendingMs,
    });
  });
  try {
    const end = await Promise.race([link.ended, untilAborted(signal)]);
    if (end === null) await takeLeave(duty, link, log);
    else await leave(end, duty, log);
  } finally {
    cancelPulse();
    desk.abortAll(new DumontError('ABORTED', 'the agent stops'));
    await desk.settled();
  }
}

/** Hands what the link delivers to the duty and the desk, and remembers epochs. */
class AgentListener implements LinkListener {
  readonly #stateFile: StateFile;
  readonly #log: Logger;
  #duty: Duty | null = null;
  #desk: CommandDesk | null = null;
  #epochNow = 0;

  constructor(stateFile: StateFile, log: Logger) {
    this.#stateFile = stateFile;
    this.#log = log;
  }

  attach(duty: Duty, desk: CommandDesk): void {
    this.#duty = duty;
    this.#desk = desk;
  }

  /** Epoch of the newest assignment. */
  get epochNow(): number {
    return this.#epochNow;
  }

  state(state: LinkState): void {
    this.#log.info({ event: 'link-state', state }, 'the control link changed its state');
    if (state === 'online') this.#duty?.online();
  }

  trouble(trouble: LinkTrouble): void {
    this.#log.warn({ event: 'link-lost', ...trouble }, 'the control link was lost');
  }

  assignment(assignment: Assignment, skewMs: number | null): void {
    if (skewMs !== null) this.#log.info({ event: 'welcomed', skewMs }, 'the control plane welcomed this agent');
    this.#hearEpoch(assignment.epoch);
    this.#epochNow = assignment.epoch;
    if (assignment.standing === 'fenced') {
      this.#desk?.abortAll(new DumontError('STALE_EPOCH', `fenced at epoch ${assignment.epoch}`));
    }
    this.#duty?.assign(assignment);
  }

  command(command: Command): void {
    this.#desk?.receive(command);
  }

  epoch(epoch: number): void {
    this.#hearEpoch(epoch);
    this.#duty?.epochHeard(epoch);
  }

  #hearEpoch(epoch: number): void {
    if (epoch <= this.#stateFile.state.highestEpoch) return;
    this.#stateFile.update({ highestEpoch: epoch }).catch((error: unknown) => {
      this.#log.error({ event: 'state-write-failed', err: error }, 'cannot remember the epoch');
    });
  }
}

/** On our own account: save, close in good order so that nobody takes it for a loss, stop. */
async function takeLeave(duty: Duty, link: ControlLink, log: Logger): Promise<void> {
  log.info({ event: 'stopping' }, 'the agent was asked to stop');
  await duty.lastWords(LAST_WORDS_MS);
  await link[Symbol.asyncDispose]();
  await duty.stopWorkload('all');
}

/** The link ended for good. */
async function leave(end: LinkEnd, duty: Duty, log: Logger): Promise<void> {
  log.info({ event: 'link-ended', ...end }, 'the control link ended for good');
  const hint = end.hint === undefined ? {} : { hint: end.hint };
  switch (end.reason) {
    case 'stopped':
      return;
    case 'released':
      await duty.stopWorkload('all');
      return;
    case 'superseded':
      await duty.stopWorkload('own');
      throw new DumontError('CONFLICT', end.message, hint);
    case 'unauthorized':
      await duty.stopWorkload('own');
      throw new DumontError('UNAUTHORIZED', end.message, hint);
    case 'broken':
      // The workload goes on; the supervisor starts another agent, which takes it over.
      throw new DumontError('INTERNAL', end.message, hint);
    default:
      assertNever(end.reason);
  }
}

function dutyOf(parts: AgentParts, stateFile: StateFile, link: ControlLink): Duty {
  const { config, openEngine, clock, random, log } = parts;
  const { workspaceDir, stateDir, workloadEnvironment } = config;
  if (config.role === 'standby') return new StandbyDuty({ workspaceDir, stateDir, clock, log });
  return new GpuDuty({
    workspaceDir,
    stateDir,
    workloadEnvironment,
    stateFile,
    openEngine,
    link,
    clock,
    random,
    log,
  });
}

function helloOf(config: AgentConfig, lastEpoch: number): Hello {
  return {
    kind: 'hello',
    protocolVersion: PROTOCOL_VERSION,
    agentVersion: AGENT_VERSION,
    instanceId: config.instanceId,
    role: config.role,
    token: config.secrets.token,
    bootId: randomUUID(),
    lastEpoch,
    hostname: hostname(),
    cpuCount: availableParallelism(),
    memoryBytes: totalmem(),
  };
}

function untilAborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    else signal.addEventListener('abort', () => resolve(null), { once: true });
  });
}
