import { randomUUID } from 'node:crypto';
import { availableParallelism, hostname, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Command } from '@dumont/shared/protocol/command.ts';
import type { Assignment, Hello } from '@dumont/shared/protocol/hello.ts';
import type { LeaveSource } from '@dumont/shared/protocol/notice.ts';
import type { Upstream } from '@dumont/shared/protocol/messages.ts';
import { PROTOCOL_VERSION } from '@dumont/shared/protocol/version.ts';
import { assertNever, must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { AgentConfig } from './config.ts';
import type { CredentialFile, Identity } from './identity/credential-file.ts';
import { CredentialRotator } from './identity/credential-rotator.ts';
import { GpuSampler } from './host/gpu-sampler.ts';
import { PreemptionWatch } from './host/preemption-watch.ts';
import { SampleLoop } from './host/sample-loop.ts';
import { CommandDesk } from './lease/command-desk.ts';
import type { Duty } from './lease/duty.ts';
import type { OpenEngine } from './lease/engine.ts';
import { GpuDuty } from './lease/gpu-duty.ts';
import { LISTEN_EVERY_MS } from './lease/peer-ear.ts';
import { StandbyDuty } from './lease/standby-duty.ts';
import { StateFile } from './lease/state-file.ts';
import { BeatBoard } from './link/beat-board.ts';
import { ControlLink, type LinkListener } from './link/control-link.ts';
import { Pulse } from './link/pulse.ts';
import type { LinkEnd } from './link/link-end.ts';
import type { LinkState } from './link/link-state.ts';
import type { LinkTrouble } from './link/thread-messages.ts';
import { UpgradeNotes } from './upgrade/upgrade-notes.ts';
import type { UploadShare } from './storage/upload-share.ts';
import { Upgrader } from './upgrade/upgrader.ts';
import { AGENT_VERSION } from './version.ts';

/** Twice per beat at the default interval, so that each beat sees a fresh sign of life. */
const PULSE_MS = LISTEN_EVERY_MS;
/** A verdict takes one round trip and one transaction; a restart need not wait for more than a slow one. */
const SETTLE_MS = 2_000;
/** Whoever sends SIGTERM sends SIGKILL after 10 s, as a rule; the last snapshot must fit with room to close. */
const LAST_WORDS_MS = 8_000;
/** Google leaves 30 s; the report of what is safe, and what is written meanwhile, need some of them. */
const PREEMPTION_MS = 30_000;
const PREEMPTION_FLUSH_MS = 24_000;

export interface AgentParts {
  readonly config: AgentConfig;
  readonly identity: Identity;
  /** Holds the credential that goes with the identity. */
  readonly credentials: CredentialFile;
  readonly openEngine: OpenEngine;
  /** The cap on what leaves the machine, if there is one; the engine has its part in it too. */
  readonly uploads?: UploadShare | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** What asks a running agent to end. */
export interface AgentSignals {
  /** A preemption notice or an operator: the newest data is saved, the workload ends. */
  readonly stop: AbortSignal;
  /** Another process of this agent is to go on: the workload runs on. */
  readonly restart: AbortSignal;
}

/**
 * Runs the agent until a signal asks it to end or the control plane ends it. Runs nothing of the user's before it was
 * welcomed; goes on through any outage of the control plane. Whatever ends it but a stop or a release, the workload
 * lives on for the next agent.
 * @throws {DumontError} UNAUTHORIZED when refused, CONFLICT when a newer agent process took over, IO for its state
 * @returns with everything closed; `restart` when it wants to be started again at once
 */
export async function runAgent(parts: AgentParts, signals: AgentSignals): Promise<'done' | 'restart'> {
  const { config, credentials, clock, random, log } = parts;
  const { workspaceDir } = config;
  const stateFile = await StateFile.open(join(config.stateDir, 'agent.json'));
  const board = new BeatBoard();
  const listener = new AgentListener(stateFile, log);
  const { upgrader, lastUpgrade } = await upgraderOf(parts);
  const hello = { ...helloOf(parts, stateFile.state.highestEpoch), ...(lastUpgrade !== null && { lastUpgrade }) };
  const switched = new AbortController();
  await using gpus = new GpuSampler({ command: config.nvidiaSmi, clock, random, log });
  await using link = new ControlLink({ url: config.socketUrl, hello, board, clock, listener });
  await using rotator = new CredentialRotator({ file: credentials, link, clock, log });
  await using duty = dutyOf(parts, stateFile, link);
  const desk = new CommandDesk({
    perform: (action, options) =>
      action.name === 'upgrade' ? upgrader.perform(action, options) : duty.perform(action, options),
    send: (message) => {
      link.send(message);
      // The answer is out before the link closes: now the version it tells of may start.
      if (tellsOfSwitch(message)) switched.abort();
    },
    clock,
  });
  // Events of the link come through the event loop, so none is delivered before this.
  listener.attach({ duty, desk, upgrader, rotator });
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
  const { metadataHost } = config;
  await using preemption = new PreemptionWatch({
    metadataHost,
    clock,
    random,
    log,
    onPreempted: () => void sayGoodbye({ duty, link }, { source: 'gcp', withinMs: PREEMPTION_MS }, PREEMPTION_FLUSH_MS),
  });
  preemption.start();
  using _pulse = new Pulse({
    clock,
    intervalMs: PULSE_MS,
    onPulse: (ageMs) => {
      const behind = duty.standbyBehind();
      board.write({
        epoch: listener.epochNow,
        gpuUtilPct: gpus.utilPct(),
        unsavedMs: ageMs(duty.unsavedMs()),
        unsavedBytes: duty.unsavedBytes() ?? undefined,
        workload: duty.workloadState,
        standbyBehindBytes: behind?.pendingBytes,
        standbyBehindMs: behind === null ? undefined : ageMs(behind.pendingMs),
        peer: duty.peerWord?.() ?? undefined,
      });
    },
  });
  try {
    const { stop } = signals;
    const restart = AbortSignal.any([signals.restart, switched.signal]);
    const end = await Promise.race([link.ended, untilAborted(stop), untilAborted(restart)]);
    if (end === stop) await takeLeave(duty, link, log);
    else if (end === restart) await makeWay(duty, link, log);
    else await leave(end as LinkEnd, { duty, credentials, log });
    return end === restart ? 'restart' : 'done';
  } finally {
    desk.abortAll(new DumontError('ABORTED', 'the agent stops'));
    await desk.settled();
  }
}

interface Receivers {
  readonly duty: Duty;
  readonly desk: CommandDesk;
  readonly upgrader: Upgrader;
  readonly rotator: CredentialRotator;
}

/** Hands what the link delivers to the duty and the desk, and remembers epochs. */
class AgentListener implements LinkListener {
  readonly #stateFile: StateFile;
  readonly #log: Logger;
  #receivers: Receivers | null = null;
  #epochNow = 0;

  constructor(stateFile: StateFile, log: Logger) {
    this.#stateFile = stateFile;
    this.#log = log;
  }

  attach(receivers: Receivers): void {
    this.#receivers = receivers;
  }

  /** Epoch of the newest assignment. */
  get epochNow(): number {
    return this.#epochNow;
  }

  state(state: LinkState): void {
    this.#log.info({ event: 'link-state', state }, 'the control link changed its state');
    if (state !== 'online') return;
    this.#receivers?.duty.online();
    this.#receivers?.rotator.online();
  }

  trouble(trouble: LinkTrouble): void {
    this.#log.warn({ event: 'link-lost', ...trouble }, 'the control link was lost');
  }

  assignment(assignment: Assignment, skewMs: number | null): void {
    if (skewMs !== null) this.#onWelcome(skewMs);
    this.#hearEpoch(assignment.epoch);
    this.#epochNow = assignment.epoch;
    // With a grant it is asked for what it held; nothing else is left to abort then.
    if (assignment.standing === 'fenced' && assignment.storage === null) {
      this.#receivers?.desk.abortAll(new DumontError('STALE_EPOCH', `fenced at epoch ${assignment.epoch}`));
    }
    this.#receivers?.duty.assign(assignment);
    this.#receivers?.rotator.follow(assignment.policy.credentialRotateMs);
  }

  credentialAccepted(): void {
    this.#receivers?.rotator.accepted();
  }

  command(command: Command): void {
    this.#receivers?.desk.receive(command);
  }

  epoch(epoch: number): void {
    this.#hearEpoch(epoch);
    this.#receivers?.duty.epochHeard(epoch);
  }

  #onWelcome(skewMs: number): void {
    this.#log.info({ event: 'welcomed', skewMs }, 'the control plane welcomed this agent');
    this.#receivers?.upgrader.welcomed().catch((error: unknown) => {
      this.#log.error({ event: 'upgrade-not-settled', err: error }, 'cannot settle the upgrade: it may be rolled back');
    });
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
  await sayGoodbye({ duty, link }, { source: 'sigterm', withinMs: LAST_WORDS_MS }, LAST_WORDS_MS);
  await link[Symbol.asyncDispose]();
  await duty.stopWorkload();
}

/** Says that the machine goes, saves what can be saved, and says what is safe. Never rejects; the workload runs on. */
async function sayGoodbye(
  { duty, link }: { readonly duty: Duty; readonly link: ControlLink },
  leave: { readonly source: LeaveSource; readonly withinMs: number },
  flushMs: number,
): Promise<void> {
  link.send({ kind: 'notice', notice: { type: 'leaving', ...leave } });
  const words = await duty.lastWords(flushMs);
  if (words !== null) link.send({ kind: 'notice', notice: { type: 'last-words', words } });
}

/** For the next process of this agent: the control plane hears that it comes, the workload notices nothing. */
async function makeWay(duty: Duty, link: ControlLink, log: Logger): Promise<void> {
  log.info({ event: 'restarting' }, 'the agent makes way for its next process');
  await duty.settle(SETTLE_MS);
  await link.close('restarting');
}

/** The link ended for good. */
async function leave(
  end: LinkEnd,
  parts: { readonly duty: Duty; readonly credentials: CredentialFile; readonly log: Logger },
): Promise<void> {
  const { duty, credentials, log } = parts;
  log.info({ event: 'link-ended', ...end }, 'the control link ended for good');
  const hint = end.hint === undefined ? {} : { hint: end.hint };
  switch (end.reason) {
    case 'stopped':
    case 'restarting':
      return;
    case 'released':
      await duty.stopWorkload();
      await credentials.markReleased();
      return;
    case 'superseded':
      // The newer process has adopted the workload, or will.
      throw new DumontError('CONFLICT', end.message, hint);
    case 'unauthorized':
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
  const { workspaceDir, stateDir, workloadEnvironment, machineHost, nvidiaSmi } = config;
  const { uploads } = parts;
  const owned = { workspaceDir, stateDir, nvidiaSmi, workloadEnvironment, stateFile, openEngine, uploads };
  const options = { ...owned, link, clock, random, log };
  if (parts.identity.role === 'gpu') return new GpuDuty(options);
  return new StandbyDuty({ ...options, listenHost: machineHost });
}

async function upgraderOf({ config, clock, random }: AgentParts) {
  const notes = new UpgradeNotes(config.stateDir);
  const lastUpgrade = await notes.lastUpgrade(AGENT_VERSION);
  const { installDir, controlUrl } = config;
  const { arch } = process;
  const ownVersion = AGENT_VERSION;
  return {
    lastUpgrade,
    upgrader: new Upgrader({ installDir, controlUrl, ownVersion, notes, lastUpgrade, arch, clock, random }),
  };
}

/** True for the answer to an upgrade that has switched versions. */
function tellsOfSwitch(message: Upstream): boolean {
  if (message.kind !== 'command-result' || !message.outcome.ok) return false;
  const { result } = message.outcome;
  return result.name === 'upgrade' && result.from !== result.to;
}

function helloOf({ config, identity, credentials }: AgentParts, lastEpoch: number): Hello {
  const { credential } = must(credentials.record, 'an agent runs after it has joined');
  return {
    kind: 'hello',
    protocolVersion: PROTOCOL_VERSION,
    agentVersion: AGENT_VERSION,
    instanceId: identity.instanceId,
    role: identity.role,
    credential,
    bootId: randomUUID(),
    lastEpoch,
    hostname: hostname(),
    cpuCount: availableParallelism(),
    memoryBytes: totalmem(),
    upgradable: config.installDir !== null,
  };
}

function untilAborted(signal: AbortSignal): Promise<AbortSignal> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal);
    else signal.addEventListener('abort', () => resolve(signal), { once: true });
  });
}
