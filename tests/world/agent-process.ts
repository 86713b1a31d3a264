import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { credentialPath, type CredentialRecord } from '@dumont/agent/identity/credential-file.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import type { AgentRole } from '@dumont/shared/model/instance.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import type { AgentSocketServer } from './agent-socket-server.ts';
import { eventually } from './eventually.ts';

const AGENT_MAIN = join(import.meta.dirname, '../../agent/src/main.ts');

/** The folders and identity of one machine; agents come and go on it. */
export interface AgentHost {
  readonly instanceId: string;
  /** `gpu` unless told. */
  readonly role?: AgentRole;
  readonly workspaceDir: string;
  readonly stateDir: string;
  /** Run instead of the agent's own main. */
  readonly entry?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Makes the folders of a machine below `root`. */
export async function makeHost(root: string, name = 'machine'): Promise<AgentHost> {
  const workspaceDir = join(root, name, 'workspace');
  const stateDir = join(root, name, 'state');
  await mkdir(workspaceDir, { recursive: true });
  return { instanceId: newId('instance'), workspaceDir, stateDir };
}

/** What the test server's agents prove themselves with. */
export const TEST_CREDENTIAL = 'a-credential-for-tests'.padEnd(43, '-');

/** As if the machine had joined this control plane before; an identity that is there stays. */
export function writeIdentity(controlUrl: string, host: AgentHost): void {
  const path = credentialPath(host.stateDir);
  if (existsSync(path)) return;
  const identity = {
    instanceId: host.instanceId as InstanceId,
    role: host.role ?? 'gpu',
    workspaceId: newId('workspace'),
  };
  const record: CredentialRecord = {
    controlUrl,
    tokenHash: '0'.repeat(64),
    credential: TEST_CREDENTIAL,
    next: null,
    sinceMs: systemClock.nowMs(),
    identity,
    isReleased: false,
  };
  mkdirSync(host.stateDir, { recursive: true });
  writeFileSync(path, JSON.stringify(record), { mode: 0o600 });
}

/** A real agent process. Killed at the end of the scope, together with the workload it may have left running. */
export class AgentProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  readonly #host: AgentHost;
  #stderr = '';

  constructor(server: Pick<AgentSocketServer, 'controlUrl'>, host: AgentHost) {
    this.#host = host;
    writeIdentity(server.controlUrl, host);
    this.child = spawn(process.execPath, [host.entry ?? AGENT_MAIN], {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      env: {
        PATH: process.env['PATH'] ?? '',
        DUMONT_CONTROL_URL: server.controlUrl,
        DUMONT_WORKSPACE_DIR: host.workspaceDir,
        DUMONT_STATE_DIR: host.stateDir,
        ...host.env,
      },
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.exit = new Promise((resolve) => {
      this.child.once('close', (code) => resolve(code));
    });
  }

  /** Everything it logged so far. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Waits for a log event. */
  async logged(event: string, count = 1): Promise<void> {
    await eventually(`${count} × log ${event}; so far:\n${this.#stderr}`, () => {
      return this.#stderr.split(`"event":"${event}"`).length > count;
    });
  }

  /** The process id of the workload it recorded. */
  async workloadPid(): Promise<number> {
    return eventually('a workload is recorded', async () => {
      const text = await readFile(join(this.#host.stateDir, 'workload.pid'), 'utf8').catch(() => null);
      return text === null ? null : (JSON.parse(text) as { readonly pid: number }).pid || null;
    });
  }

  /** Kills the agent alone, as a crash would. */
  async crash(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.crash();
    const text = await readFile(join(this.#host.stateDir, 'workload.pid'), 'utf8').catch(() => null);
    if (text === null) return;
    const { pid } = JSON.parse(text) as { readonly pid: number };
    if (pid === 0) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

/** True while the process runs (a zombie does not). */
export async function isRunning(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return text !== null && !/\) [ZX] /.test(text);
}
