import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Action, CommandResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment, Hello, Refused } from '@dumont/shared/protocol/hello.ts';
import { decodeFrame } from '@dumont/shared/protocol/frame.ts';
import { type Downstream, type Upstream, upstreamSchema } from '@dumont/shared/protocol/messages.ts';
import type { SnapshotCommit, SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { AGENT_SOCKET_PATH } from '@dumont/shared/protocol/version.ts';
import { type WebSocket, WebSocketServer } from 'ws';
import { eventually } from './eventually.ts';

type MessageOf<Kind extends Upstream['kind']> = Extract<Upstream, { readonly kind: Kind }>;

/** A message with the time it arrived, ms on this process's monotonic clock. */
export interface Arrival {
  readonly message: Upstream;
  readonly atMs: number;
  readonly connection: number;
}

export interface CloseRecord {
  readonly code: number;
  readonly connection: number;
}

/**
 * The control plane's end of the agent socket, reduced to what a test needs: it speaks the protocol over a real port,
 * records everything, and does what it is told: refuse, fall silent, drop, talk nonsense.
 */
export class AgentSocketServer implements AsyncDisposable {
  readonly arrivals: Arrival[] = [];
  readonly closes: CloseRecord[] = [];
  /** Answer to the next hellos. */
  assignment: Assignment;
  /** When set, hellos get this and a close instead of a welcome. */
  refusal: { readonly refused: Omit<Refused, 'kind'>; readonly closeCode: number } | null = null;
  /** When false, proposed credentials get no answer. */
  acceptsCredentials = true;
  /** When false, heartbeats are not acknowledged. */
  acks = true;
  /** Epoch in acks; null: the assignment's. */
  ackEpoch: number | null = null;
  decide: (commit: SnapshotCommit) => SnapshotVerdict['verdict'] | null;
  connectionCount = 0;
  readonly #http: Server;
  readonly #sockets = new Set<WebSocket>();
  readonly #raw = new Set<Socket>();
  #seq = 0;

  private constructor(assignment: Assignment, http: Server) {
    this.assignment = assignment;
    this.#http = http;
    this.decide = (commit) => {
      this.#seq += 1;
      const { snapshotId, manifestKey, manifestHash } = commit.snapshot;
      this.assignment = { ...this.assignment, head: { snapshotId, manifestKey, manifestHash } };
      return { kind: 'committed', seq: this.#seq };
    };
  }

  /** @param port 0 lets the system choose; give an earlier server's port to stand in for its restart */
  static async start(assignment: Assignment, port = 0): Promise<AgentSocketServer> {
    const http = createServer();
    const server = new AgentSocketServer(assignment, http);
    const sockets = new WebSocketServer({ server: http, path: AGENT_SOCKET_PATH, perMessageDeflate: false });
    http.on('connection', (socket) => {
      server.#raw.add(socket);
      socket.once('close', () => server.#raw.delete(socket));
    });
    sockets.on('connection', (socket) => server.#serve(socket));
    await new Promise<void>((resolve, reject) => {
      http.once('error', reject);
      http.listen(port, '127.0.0.1', resolve);
    });
    return server;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  /** For DUMONT_CONTROL_URL. */
  get controlUrl(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** For a link. */
  get socketUrl(): string {
    return `ws://127.0.0.1:${this.port}${AGENT_SOCKET_PATH}`;
  }

  get openCount(): number {
    return this.#sockets.size;
  }

  of<Kind extends Upstream['kind']>(kind: Kind): MessageOf<Kind>[] {
    return this.arrivals.flatMap(({ message }) => (message.kind === kind ? [message as MessageOf<Kind>] : []));
  }

  hellos(): Hello[] {
    return this.of('hello');
  }

  /** Waits for the `count`-th message of a kind. */
  async waitFor<Kind extends Upstream['kind']>(kind: Kind, count = 1, withinMs = 10_000): Promise<MessageOf<Kind>> {
    return eventually(`${count} × ${kind}`, () => this.of(kind)[count - 1], withinMs);
  }

  send(message: Downstream): void {
    this.sendText(JSON.stringify(message));
  }

  sendText(text: string): void {
    for (const socket of this.#sockets) socket.send(text);
  }

  /** Changes the assignment and tells every connected agent. */
  assign(change: Partial<Assignment>): void {
    this.assignment = { ...this.assignment, ...change };
    this.send({ kind: 'assign', assignment: this.assignment });
  }

  /** Sends a command to the agent, once it beats, and waits for its result. */
  async run(action: Action, commandId = newId('command'), withinMs = 20_000): Promise<CommandResult['outcome']> {
    await eventually('an agent beats', () => {
      return this.arrivals.some(({ message, connection }) => {
        return connection === this.connectionCount && message.kind === 'heartbeat';
      });
    });
    this.send({ kind: 'command', commandId, action });
    const result = await eventually(
      `result of ${action.name}`,
      () => this.of('command-result').find((message) => message.commandId === commandId),
      withinMs,
    );
    return result.outcome;
  }

  /** Ends every connection without a word, as a crash would. */
  dropAll(): void {
    for (const socket of this.#raw) socket.destroy();
  }

  /** Ends every connection with a WebSocket close. */
  closeAll(code: number, reason = ''): void {
    for (const socket of this.#sockets) socket.close(code, reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dropAll();
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve());
    });
  }

  #serve(socket: WebSocket): void {
    this.connectionCount += 1;
    const connection = this.connectionCount;
    this.#sockets.add(socket);
    socket.on('close', (code) => {
      this.#sockets.delete(socket);
      this.closes.push({ code, connection });
    });
    socket.on('error', () => {});
    socket.on('message', (data) => {
      const message = decodeFrame(upstreamSchema, (data as Buffer).toString());
      this.arrivals.push({ message, atMs: performance.now(), connection });
      this.#answer(socket, message);
    });
  }

  #answer(socket: WebSocket, message: Upstream): void {
    const reply = (answer: Downstream) => socket.send(JSON.stringify(answer));
    if (message.kind === 'hello') {
      if (this.refusal === null) {
        reply({ kind: 'welcome', sessionId: 'session', nowMs: Date.now(), assignment: this.assignment });
      } else {
        reply({ kind: 'refused', ...this.refusal.refused });
        socket.close(this.refusal.closeCode);
      }
    } else if (message.kind === 'heartbeat') {
      if (this.acks) reply({ kind: 'heartbeat-ack', seq: message.seq, epoch: this.ackEpoch ?? this.assignment.epoch });
    } else if (message.kind === 'credential-propose') {
      if (this.acceptsCredentials) reply({ kind: 'credential-accepted' });
    } else if (message.kind === 'snapshot-commit') {
      const verdict = this.decide(message);
      if (verdict !== null) reply({ kind: 'snapshot-verdict', requestId: message.requestId, verdict });
    }
  }
}

/** An assignment for tests; `storePath` is a folder that holds the object store. */
export function testAssignment(storePath: string, change: Partial<Assignment> = {}): Assignment {
  return {
    workspaceId: newId('workspace'),
    epoch: 1,
    standing: 'replacement',
    policy: { heartbeatIntervalMs: 50, snapshotIntervalMs: 300 },
    storage: { kind: 'file', path: storePath, prefix: '' },
    head: null,
    workload: null,
    ...change,
  };
}
