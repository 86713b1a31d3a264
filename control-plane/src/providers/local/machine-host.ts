import { watch } from 'node:fs';
import { mkdir, rm, stat, symlink, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock, type Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { superviseAgent } from './agent-supervisor.ts';
import {
  machinePaths,
  readMark,
  readRecord,
  writeJsonOnce,
  writeStatus,
  type MachinePaths,
  type MachineRecord,
} from './machine-folder.ts';
import { MachineNetwork, type ControlAddress } from './machine-network.ts';
import { identify, killMachine, MACHINE_REF_VARIABLE } from './process-tree.ts';

/** The part of the boot in which a marketplace has no word for the machine yet. */
const UNKNOWN_SHARE = 0.2;

/** Folder changes arrive as events; this is for what they miss, and for the size of the logs. */
const PATROL_MS = 500;

/** Where a local machine's SSH server listens, if its user starts one: 22 needs privileges. */
const LOCAL_SSH_PORT = 2222;

/** Past this a log starts over: machines of a demo run for days. */
const MAX_LOG_BYTES = 16 * 1024 * 1024;

/**
 * Plays the rented host: boots, gives the machine a network and a mounted file store, starts the agent and keeps it
 * going. Ends when told to by a signal or when the machine's folder is gone, and takes every process of the machine
 * along. At most one per folder: the second to arrive leaves at once.
 */
class MachineHost {
  readonly #paths: MachinePaths;
  readonly #clock: Clock;
  readonly #ended = new AbortController();
  #network: MachineNetwork | null = null;
  #patrol: Promise<void> = Promise.resolve();
  #patrolDue = false;

  constructor(paths: MachinePaths, clock: Clock) {
    this.#paths = paths;
    this.#clock = clock;
  }

  async run(stopSignal: AbortSignal): Promise<void> {
    const record = await this.#claim();
    if (record === null) return;
    const signal = AbortSignal.any([stopSignal, this.#ended.signal]);
    const stopPatrols = this.#startPatrols();
    try {
      await this.#live(record, signal);
    } catch (error) {
      const expected = isAbortError(error) || (await readRecord(this.#paths)) === null;
      if (!expected) throw error;
    } finally {
      stopPatrols();
      await this.#patrol;
      await this.#network?.[Symbol.asyncDispose]();
      await killMachine({ ref: record.ref, leader: await identify(process.pid) }, this.#clock);
    }
  }

  /** The machine's record if this process is to run it: it exists, is wanted, and nobody else runs it. */
  async #claim(): Promise<MachineRecord | null> {
    const record = await readRecord(this.#paths);
    if (record === null) return null;
    const identity = must(await identify(process.pid), 'this process lives');
    if (!(await writeJsonOnce(this.#paths.leader, identity))) return null;
    // Read after the claim: who sets these marks looks for the leader afterwards, so one of us sees the other.
    const unwanted = (await readMark(this.#paths, 'killed')) ?? (await readMark(this.#paths, 'destroyed'));
    return unwanted === null ? record : null;
  }

  async #live(record: MachineRecord, signal: AbortSignal): Promise<void> {
    const unknownMs = record.bootMs * UNKNOWN_SHARE;
    await this.#clock.sleep(unknownMs, signal);
    await writeStatus(this.#paths, { phase: 'loading', probePort: null, network: 'up' });
    if (!record.boots) await untilAborted(signal);
    await this.#clock.sleep(record.bootMs - unknownMs, signal);

    const control = controlAddress(record.agentEnvironment);
    const cut = (await readMark(this.#paths, 'cut')) !== null;
    const inbound = { host: machineHost(record.ref), ports: [LOCAL_SSH_PORT, ...record.ports] };
    const network = await MachineNetwork.open(control, { cut, inbound });
    this.#network = network;
    await this.#applyNetwork(network, record);
    await superviseAgent(
      {
        command: record.agentCommand,
        cwd: this.#paths.workspace,
        environment: this.#agentEnvironment(record, network.uplinkPort),
        logPath: this.#paths.agentLog,
      },
      { clock: this.#clock, random: systemRandom, signal },
    );
    // An agent that ended on purpose leaves the machine up and billed, as everywhere.
    await untilAborted(signal);
  }

  #startPatrols(): () => void {
    const inspect = () => {
      if (this.#patrolDue) return;
      this.#patrolDue = true;
      this.#patrol = this.#patrol.then(() => this.#inspect()).catch((error: unknown) => this.#ended.abort(error));
    };
    const cancelTimer = this.#clock.every(PATROL_MS, inspect);
    const watcher = watch(this.#paths.folder, inspect);
    // Losing the watcher only means noticing later: the timer goes on.
    watcher.on('error', () => watcher.close());
    return () => {
      cancelTimer();
      watcher.close();
    };
  }

  async #inspect(): Promise<void> {
    this.#patrolDue = false;
    if (this.#ended.signal.aborted) return;
    const record = await readRecord(this.#paths);
    if (record === null) {
      this.#ended.abort(new DOMException('the machine was removed', 'AbortError'));
      return;
    }
    await Promise.all([this.#paths.agentLog, this.#paths.hostLog].map(capLog));
    const network = this.#network;
    if (network === null) return;
    const cut = (await readMark(this.#paths, 'cut')) !== null;
    if (cut === network.isCut) return;
    if (cut) network.cut();
    else network.heal();
    await this.#applyNetwork(network, record);
  }

  /** The file store is reached over the network too, so its mount comes and goes with it. */
  async #applyNetwork(network: MachineNetwork, record: MachineRecord): Promise<void> {
    const storePath = record.agentEnvironment['DUMONT_FILE_STORE_PATH'];
    await rm(this.#paths.mount, { force: true });
    if (storePath !== undefined && !network.isCut) {
      await mkdir(dirname(this.#paths.mount), { recursive: true });
      await symlink(storePath, this.#paths.mount);
    }
    await writeStatus(this.#paths, {
      phase: 'running',
      probePort: network.probePort,
      sshPort: network.inboundPorts.get(LOCAL_SSH_PORT) ?? null,
      ports: record.ports.map((port) => [port, network.inboundPorts.get(port) ?? 0]),
      network: network.isCut ? 'cut' : 'up',
    });
  }

  #agentEnvironment(record: MachineRecord, uplinkPort: number): Record<string, string> {
    const { DUMONT_FILE_STORE_PATH: storePath, DUMONT_CONTROL_URL: controlUrl, ...given } = record.agentEnvironment;
    const inherited = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
    return {
      ...Object.fromEntries(inherited),
      ...given,
      [MACHINE_REF_VARIABLE]: record.ref,
      DUMONT_WORKSPACE_DIR: this.#paths.workspace,
      DUMONT_STATE_DIR: this.#paths.state,
      DUMONT_MACHINE_HOST: machineHost(record.ref),
      ...(storePath === undefined ? {} : { DUMONT_FILE_STORE_MOUNT: this.#paths.mount }),
      ...(controlUrl === undefined ? {} : { DUMONT_CONTROL_URL: throughUplink(controlUrl, uplinkPort) }),
    };
  }
}

/**
 * The loopback address that is this machine's own, so that two machines may listen on the same port: workloads bind to
 * DUMONT_MACHINE_HOST. Drawn from the reference: 8 million addresses, of which a fleet uses a few. Only Linux answers on
 * all of 127/8; elsewhere machines share one address, and a port serves one machine at a time.
 */
function machineHost(ref: string): string {
  if (process.platform !== 'linux') return '127.0.0.1';
  const bits = Number.parseInt(ref.slice(-6), 16);
  return `127.${128 + ((bits >> 16) & 127)}.${(bits >> 8) & 255}.${1 + ((bits & 255) % 254)}`;
}

function controlAddress(environment: Readonly<Record<string, string>>): ControlAddress | null {
  const text = environment['DUMONT_CONTROL_URL'];
  if (text === undefined) return null;
  const url = new URL(text);
  // WHATWG keeps the brackets of an IPv6 address, node:net wants it bare.
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 80 : Number(url.port) };
}

function throughUplink(controlUrl: string, uplinkPort: number): string {
  const url = new URL(controlUrl);
  url.hostname = '127.0.0.1';
  url.port = String(uplinkPort);
  return url.href;
}

/** Files are opened for appending, so cutting one to nothing is safe while a process writes to it. */
async function capLog(path: string): Promise<void> {
  try {
    if ((await stat(path)).size > MAX_LOG_BYTES) await truncate(path);
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
  }
}

function isAbortError(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

/** Rejects with the signal's reason once it aborts. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = () => reject(signal.reason as Error);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

await runMain((signal) => {
  const folder = must(process.argv[2], 'the machine folder is the first argument');
  return new MachineHost(machinePaths(folder), systemClock).run(signal);
});
