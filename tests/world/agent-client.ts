import { once } from 'node:events';
import { newId } from '@dumont/shared/model/ids.ts';
import { decodeFrame } from '@dumont/shared/protocol/frame.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { type Downstream, downstreamSchema } from '@dumont/shared/protocol/messages.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import type { SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { AGENT_SOCKET_PATH, PROTOCOL_VERSION } from '@dumont/shared/protocol/version.ts';
import { WebSocket } from 'ws';
import { eventually } from './eventually.ts';

/** The agent's end of the agent socket, by hand: says what a test wants, keeps what it hears, never beats. */
export class AgentClient implements AsyncDisposable {
  readonly received: Downstream[] = [];
  readonly #socket: WebSocket;
  closeCode: number | null = null;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer) => {
      this.received.push(decodeFrame<Downstream>(downstreamSchema, data.toString('utf8')));
    });
    socket.on('close', (code) => {
      this.closeCode = code;
    });
  }

  /** Resolves when the hello was answered, by a welcome or a refusal. */
  static async connect(
    site: { readonly port: number },
    identity: { readonly instanceId: string; readonly credential: string },
  ): Promise<AgentClient> {
    const socket = new WebSocket(`ws://127.0.0.1:${site.port}${AGENT_SOCKET_PATH}`);
    const client = new AgentClient(socket);
    await once(socket, 'open');
    const hello = {
      kind: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      agentVersion: 'test',
      role: 'gpu',
      bootId: newId('command'),
      lastEpoch: 0,
      hostname: 'elsewhere',
      cpuCount: 1,
      memoryBytes: 0,
      ...identity,
    };
    socket.send(JSON.stringify(hello));
    await eventually('an answer to the hello', () =>
      client.received.some(({ kind }) => kind === 'welcome' || kind === 'refused'),
    );
    return client;
  }

  /** The newest assignment it was told. */
  get assignment(): Assignment {
    const told = this.received.findLast((message) => message.kind === 'welcome' || message.kind === 'assign');
    if (told === undefined) throw new Error(`no assignment: ${JSON.stringify(this.received)}`);
    return (told as Extract<Downstream, { readonly kind: 'assign' }>).assignment;
  }

  /** Asks to make a new snapshot, with these contents and parent, the workspace's head. */
  async commit(epoch: number, snapshot: SnapshotRecord): Promise<SnapshotVerdict['verdict']> {
    const requestId = newId('command');
    this.#socket.send(
      JSON.stringify({
        kind: 'snapshot-commit',
        requestId,
        epoch,
        snapshot: { ...snapshot, snapshotId: newId('snapshot') },
      }),
    );
    return eventually('a verdict', () => {
      const verdict = this.received.find((each) => each.kind === 'snapshot-verdict' && each.requestId === requestId);
      return verdict?.kind === 'snapshot-verdict' && verdict.verdict;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.closeCode !== null) return;
    const closed = once(this.#socket, 'close');
    this.#socket.terminate();
    await closed;
  }
}
