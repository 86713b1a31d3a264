import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { LocalFaults } from '@dumont/control-plane/providers/local/local-faults.ts';
import { LocalProvider } from '@dumont/control-plane/providers/local/local-provider.ts';
import type { MachinePaths } from '@dumont/control-plane/providers/local/machine-folder.ts';
import { MACHINE_REF_VARIABLE } from '@dumont/control-plane/providers/local/process-tree.ts';
import { createApiClient, type ApiClient } from '@dumont/shared/api/client.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { eventually } from './eventually.ts';
import { makeTempFolder } from './temp-folder.ts';

export const AGENT_MAIN = join(import.meta.dirname, '../../agent/src/main.ts');
const TOKEN = 'token-of-the-tests-0123456789';

/**
 * The folder, port and environment of one installation: control planes come and go on it, its machines are real
 * processes. At its end every machine is destroyed and every trace removed, whatever the test did.
 */
export class Site implements AsyncDisposable {
  readonly folder: string;
  readonly port: number;
  /** What the tests see of the provider, independently of any control plane. */
  readonly provider: LocalProvider;
  readonly faults: LocalFaults;
  readonly client: ApiClient;
  readonly #gatewayPorts: string;
  readonly #remove: () => PromiseLike<void>;

  private constructor(folder: AsyncDisposable & { readonly path: string }, port: number) {
    this.folder = folder.path;
    this.port = port;
    const root = join(this.dataDirectory, 'machines');
    this.faults = new LocalFaults({ root, clock: systemClock });
    this.provider = new LocalProvider({
      root,
      agentCommand: [],
      clock: systemClock,
      random: systemRandom,
      log: createLogger('site', 'silent'),
    });
    this.client = createApiClient({ baseUrl: `http://127.0.0.1:${port}`, token: TOKEN });
    const first = randomInt(30_000, 32_700);
    this.#gatewayPorts = `${first}-${first + 40}`;
    this.#remove = () => folder[Symbol.asyncDispose]();
  }

  static async make(): Promise<Site> {
    return new Site(await makeTempFolder(), await freePort());
  }

  get dataDirectory(): string {
    return join(this.folder, 'data');
  }

  get storePath(): string {
    return join(this.dataDirectory, 'objects');
  }

  get connectionFile(): string {
    return join(this.folder, 'connection.json');
  }

  /** Of a control plane: quick boots and a short grace, so that tests spend their time on what they are about. */
  environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: process.env['PATH'] ?? '',
      HOME: this.folder,
      DUMONT_DATA_DIR: this.dataDirectory,
      DUMONT_PORT: String(this.port),
      DUMONT_API_TOKEN: TOKEN,
      DUMONT_CONNECTION_FILE: this.connectionFile,
      DUMONT_LOCAL_BOOT_SCALE: '0.05',
      DUMONT_START_GRACE_MS: '1500',
      DUMONT_GATEWAY_PORTS: this.#gatewayPorts,
      ...extra,
    };
  }

  /** Where a machine keeps its disk and logs. */
  paths(providerRef: string | null): MachinePaths {
    return must(this.provider.paths(must(providerRef, 'the machine was rented')), 'the reference is a local one');
  }

  /** Processes of a machine whose command line begins with the text. */
  async processes(providerRef: string | null, command = ''): Promise<readonly number[]> {
    const ref = must(providerRef, 'the machine was rented');
    const running = await machineProcesses();
    return running.filter((each) => each.ref === ref && each.commandLine.startsWith(command)).map(({ pid }) => pid);
  }

  /** Destroys every machine and all data; no control plane may run. */
  async clear(): Promise<void> {
    await this.#destroyMachines();
    await rm(this.dataDirectory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#destroyMachines();
    } finally {
      await this.#remove();
    }
  }

  async #destroyMachines(): Promise<void> {
    const { signal } = new AbortController();
    const machines = await this.provider.list({ signal });
    // Frozen and cut machines are destroyed like any other.
    await Promise.all(machines.map(({ ref }) => this.provider.destroy(ref, { signal })));
    const refs = new Set(machines.map(({ ref }) => ref));
    await eventually('no process of any machine is left', async () => {
      return (await machineProcesses()).every(({ ref }) => !refs.has(ref));
    });
  }
}

interface MachineProcess {
  readonly pid: number;
  readonly ref: string;
  readonly commandLine: string;
  /** Names of its folders, which tell whose it is, are in here. */
  readonly environment: string;
}

/** Every live process of any local machine on this computer. */
export async function machineProcesses(): Promise<readonly MachineProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map(describeProcess));
  return found.filter((each) => each !== null);
}

async function describeProcess(pid: number): Promise<MachineProcess | null> {
  try {
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1');
    const ref = new RegExp(`(?:^|\\0)${MACHINE_REF_VARIABLE}=([^\\0]*)`).exec(environment)?.[1];
    if (ref === undefined) return null;
    const commandLine = (await readFile(`/proc/${pid}/cmdline`, 'latin1')).replaceAll('\0', ' ');
    return { pid, ref, commandLine, environment };
  } catch {
    // Gone since, or not ours to read.
    return null;
  }
}

/** Below the range the system hands out by itself, so that nobody takes it while a control plane is down. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(21_000, 30_000);
    const server = createServer();
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return port;
    } catch {
      // Taken: try another.
    } finally {
      server.close();
    }
  }
}
