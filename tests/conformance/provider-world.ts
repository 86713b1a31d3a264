import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { LocalFaults } from '@dumont/control-plane/providers/local/local-faults.ts';
import { LocalProvider, type LocalProviderOptions } from '@dumont/control-plane/providers/local/local-provider.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';

/** Generous: two cores may be shared with other suites. */
const DEADLINE_MS = 15_000;

/** Polls until the condition gives something else than false, null or undefined, and returns that. */
export async function eventually<Value>(
  what: string,
  condition: () => Value | Promise<Value>,
): Promise<Exclude<Value, null | undefined | false>> {
  const deadlineMs = systemClock.monotonicMs() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value !== null && value !== undefined && value !== false) {
      return value as Exclude<Value, null | undefined | false>;
    }
    if (systemClock.monotonicMs() > deadlineMs) throw new Error(`waited ${DEADLINE_MS} ms for ${what}`);
    await systemClock.sleep(10);
  }
}

interface AgentHello {
  readonly ref: string;
  readonly pid: number;
  readonly strayPid: number;
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** One agent's connection as the control plane sees it. */
export interface AgentLine {
  readonly hello: AgentHello;
  readonly socket: Socket;
  beats: number;
  closed: boolean;
}

/** The control plane of these tests: notes who says hello and how often it beats. */
export class AgentListener implements AsyncDisposable {
  readonly lines: AgentLine[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((socket) => this.#take(socket));
  }

  static async open(): Promise<AgentListener> {
    const listener = new AgentListener();
    listener.#server.listen(0, '127.0.0.1');
    await once(listener.#server, 'listening');
    return listener;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/agent/v1`;
  }

  /** The newest connection of a machine once there are at least `count`. */
  heard(ref: string, count = 1): Promise<AgentLine> {
    return eventually(`hello number ${count} of ${ref}`, () => {
      const mine = this.lines.filter((line) => line.hello.ref === ref);
      return mine.length >= count && mine.at(-1);
    });
  }

  /** Resolves when the agent beats again after now. */
  async beatsOn(line: AgentLine): Promise<void> {
    const before = line.beats;
    await eventually('another beat', () => line.beats > before);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #take(socket: Socket): void {
    this.#sockets.add(socket);
    let line: AgentLine | null = null;
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (line !== null) line.closed = true;
    });
    createInterface({ input: socket }).on('line', (text) => {
      const message = JSON.parse(text) as { readonly kind: string } & AgentHello;
      if (message.kind === 'beat' && line !== null) line.beats += 1;
      if (message.kind !== 'hello') return;
      line = { hello: message, socket, beats: 0, closed: false };
      this.lines.push(line);
    });
  }
}

/** A fresh fleet in a folder of its own; everything in it dies with the world. */
export class LocalWorld implements AsyncDisposable {
  readonly root: string;
  readonly listener: AgentListener;
  readonly faults: LocalFaults;
  readonly provider: LocalProvider;

  private constructor(root: string, listener: AgentListener) {
    this.root = root;
    this.listener = listener;
    this.faults = new LocalFaults({ root, clock: systemClock });
    this.provider = this.another();
  }

  static async open(): Promise<LocalWorld> {
    return new LocalWorld(await mkdtemp(join(tmpdir(), 'dumont-fleet-')), await AgentListener.open());
  }

  /** A second provider on the same fleet. */
  another(options: Partial<LocalProviderOptions> = {}): LocalProvider {
    return new LocalProvider({ ...localOptions(this.root), ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { signal } = new AbortController();
    for (const machine of await this.provider.list({ signal })) await this.provider.destroy(machine.ref, { signal });
    await this.listener[Symbol.asyncDispose]();
    await rm(this.root, { recursive: true, force: true });
  }
}

/** How every provider of these tests is built, in whatever process. */
export function localOptions(root: string): LocalProviderOptions {
  return {
    root,
    agentCommand: [process.execPath, fileURLToPath(new URL('./provider-agent.ts', import.meta.url))],
    clock: systemClock,
    random: seededRandom(7),
    log: createLogger('conformance', 'silent'),
    bootScale: 0.3,
  };
}

/** True while the process runs or is stopped; zombies are dead. */
export function isProcessAlive(pid: number): boolean {
  const path = `/proc/${pid}/stat`;
  if (!existsSync(path)) return false;
  const text = readFileSync(path, 'latin1');
  return !['Z', 'X'].includes(text.slice(text.lastIndexOf(')') + 2).charAt(0));
}

/** What a TCP probe learns within `waitMs`. */
export async function probe(
  address: { readonly host: string; readonly port: number },
  waitMs: number,
): Promise<'answered' | 'silent' | 'refused'> {
  const socket = connect(address.port, address.host);
  const impatience = new AbortController();
  const answers = [
    once(socket, 'data').then(
      () => 'answered' as const,
      () => 'refused' as const,
    ),
    systemClock.sleep(waitMs, impatience.signal).then(() => 'silent' as const),
  ];
  try {
    return await Promise.race(answers);
  } finally {
    impatience.abort();
    await Promise.allSettled(answers.slice(1));
    socket.destroy();
  }
}
