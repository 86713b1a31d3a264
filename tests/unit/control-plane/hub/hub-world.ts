import { once } from 'node:events';
import type { AgentDirectory } from '@dumont/control-plane/hub/agent-directory.ts';
import { AgentHub, type AgentHubOptions } from '@dumont/control-plane/hub/agent-hub.ts';
import type { HubListener } from '@dumont/control-plane/hub/hub-listener.ts';
import { listen } from '@dumont/control-plane/http/listen.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Assignment, Hello } from '@dumont/shared/protocol/hello.ts';
import { downstreamSchema, type Downstream } from '@dumont/shared/protocol/messages.ts';
import { AGENT_SOCKET_PATH, CLOSE_CODES, PROTOCOL_VERSION } from '@dumont/shared/protocol/version.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { WebSocket } from 'ws';

const CREDENTIAL = 'correct-horse-battery'.padEnd(43, '-');

/** A hub on a real HTTP server whose directory admits everyone with the right credential. */
export async function hubWorld(options: Partial<AgentHubOptions> = {}) {
  const facts: string[] = [];
  const changed = new Signal();
  const tell = (fact: string) => {
    facts.push(fact);
    changed.fire();
  };
  const listener: HubListener = {
    connected: () => tell('connected'),
    disconnected: (_id, { abrupt, code }) => tell(`disconnected ${abrupt ? 'abruptly' : 'cleanly'} ${code}`),
    heartbeat: (_id, beat) => tell(`heartbeat ${beat.seq}`),
    sample: () => tell('sample'),
    notice: (_id, { type }) => tell(`notice ${type}`),
  };
  const directory = options.directory ?? admittingDirectory();
  const log = createLogger('test', 'silent');
  const hub = new AgentHub({ clock: systemClock, listener, log, ...options, directory });
  const server = await listen({ host: '127.0.0.1', port: 0 });
  hub.attach(server);
  const url = `ws://127.0.0.1:${server.port}${AGENT_SOCKET_PATH}`;
  return {
    hub,
    server,
    url,
    facts,
    /** Resolves once this fact was reported. */
    async fact(wanted: string) {
      while (!facts.includes(wanted)) await changed.next();
    },
    async [Symbol.asyncDispose]() {
      await hub[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

export function admittingDirectory(overrides: Partial<AgentDirectory> = {}): AgentDirectory {
  return {
    admit: (hello) =>
      Promise.resolve(
        hello.credential === CREDENTIAL
          ? { kind: 'admitted', assignment: assignmentAt(1) }
          : {
              kind: 'refused',
              refused: { code: 'UNAUTHORIZED', message: 'wrong credential', hint: 'Enrol the machine again.' },
              closeCode: CLOSE_CODES.unauthorized,
            },
      ),
    proposeCredential: () => Promise.resolve(),
    confirmCredential: () => Promise.resolve(),
    commitSnapshot: () => Promise.resolve({ kind: 'committed', seq: 1 }),
    ...overrides,
  };
}

const WORKSPACE = newId('workspace');

export function assignmentAt(epoch: number): Assignment {
  return {
    workspaceId: WORKSPACE,
    epoch,
    standing: 'primary',
    policy: { heartbeatIntervalMs: 200, snapshotIntervalMs: 30_000 },
    storage: { kind: 'file', path: '/store', prefix: '' },
    head: null,
    workload: null,
  };
}

export function helloOf(instanceId: InstanceId, overrides: Partial<Hello> = {}): Hello {
  return {
    kind: 'hello',
    protocolVersion: PROTOCOL_VERSION,
    agentVersion: '0.1.0',
    instanceId,
    role: 'gpu',
    credential: CREDENTIAL,
    bootId: 'boot-0001',
    lastEpoch: 0,
    hostname: 'host',
    cpuCount: 8,
    memoryBytes: 1,
    ...overrides,
  };
}

/** A bare agent: a real WebSocket that remembers what it was told. */
export class TestAgent {
  readonly socket: WebSocket;
  readonly received: Downstream[] = [];
  readonly #changed = new Signal();
  closeCode: number | null = null;
  closeReason = '';

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data) => {
      this.received.push(downstreamSchema.parse(JSON.parse((data as Buffer).toString('utf8'))));
      this.#changed.fire();
    });
    socket.on('close', (code, reason) => {
      this.closeCode = code;
      this.closeReason = reason.toString('utf8');
      this.#changed.fire();
    });
    socket.on('error', () => {});
  }

  static async connect(url: string): Promise<TestAgent> {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    const agent = new TestAgent(socket);
    await once(socket, 'open');
    return agent;
  }

  /** Connected and welcomed. */
  static async greeted(url: string, instanceId: InstanceId): Promise<TestAgent> {
    const agent = await TestAgent.connect(url);
    agent.send(helloOf(instanceId));
    await agent.next('welcome');
    return agent;
  }

  send(message: unknown): void {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** The first message of this kind, waiting for it if need be. */
  async next<Kind extends Downstream['kind']>(kind: Kind): Promise<Extract<Downstream, { readonly kind: Kind }>> {
    for (;;) {
      const found = this.received.findIndex((message) => message.kind === kind);
      if (found >= 0) return this.received.splice(found, 1)[0] as Extract<Downstream, { readonly kind: Kind }>;
      if (this.closeCode !== null) throw new Error(`closed with ${this.closeCode} before ${kind}`);
      await this.#changed.next();
    }
  }

  async closed(): Promise<number> {
    while (this.closeCode === null) await this.#changed.next();
    return this.closeCode;
  }
}

/** Wakes whoever waits whenever something changed. */
class Signal {
  #wake: (() => void)[] = [];

  fire(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  next(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }
}
