import { randomUUID } from 'node:crypto';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { decodeFrame, encodeFrame } from '@dumont/shared/protocol/frame.ts';
import type { Assignment, Hello, Refused } from '@dumont/shared/protocol/hello.ts';
import { upstreamSchema, type Downstream, type Upstream } from '@dumont/shared/protocol/messages.ts';
import { CLOSE_CODES, MAX_MESSAGE_BYTES } from '@dumont/shared/protocol/version.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { RawData, WebSocket } from 'ws';
import type { HubLimits } from './hub-limits.ts';

/** What a session tells its hub; called synchronously. */
export interface SessionOwner {
  /** The first message. The owner answers with {@link AgentSession.welcome} or {@link AgentSession.refuse}. */
  hello(session: AgentSession, hello: Hello): void;
  /** Any message after the welcome. */
  message(session: AgentSession, message: Exclude<Upstream, Hello>): void;
  /** The session is over, whoever ended it; exactly once. The socket may linger for a moment. */
  ended(session: AgentSession, info: { readonly abrupt: boolean; readonly code: number }): void;
}

export interface AgentSessionOptions {
  readonly socket: WebSocket;
  readonly owner: SessionOwner;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: HubLimits;
}

/**
 * One agent socket from the upgrade to its end: `greeting` (waits for hello) → `admitting` (hello is being checked) →
 * `live` → `ended`. Checks every frame, bounds what waits in either direction, and ends the session on the first breach.
 */
export class AgentSession {
  readonly id = randomUUID();
  readonly #socket: WebSocket;
  readonly #owner: SessionOwner;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #limits: HubLimits;
  readonly #cancelGreeting: () => void;
  readonly #closed: Promise<void>;
  #phase: 'greeting' | 'admitting' | 'live' | 'ended' = 'greeting';
  #instanceId: InstanceId | null = null;
  #held: HeldMessage[] = [];

  /** The assignment last sent, or to be sent with the welcome; null before both. */
  assignment: Assignment | null = null;
  ackedAtMonotonicMs = Number.NEGATIVE_INFINITY;
  /** When the newest message arrived. */
  heardAtMonotonicMs = Number.NEGATIVE_INFINITY;
  commitsInFlight = 0;
  credentialsInFlight = 0;

  constructor(options: AgentSessionOptions) {
    this.#socket = options.socket;
    this.#owner = options.owner;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#limits = options.limits;
    this.#cancelGreeting = options.clock.after(options.limits.greetingTimeoutMs, () => this.#onGreetingTimeout());
    this.#closed = new Promise((resolve) => {
      options.socket.on('close', (code) => {
        this.#finish({ abrupt: code === ABNORMAL_CLOSURE, code });
        resolve();
      });
    });
    options.socket.on('message', (data, isBinary) => this.#onMessage(data, isBinary));
    options.socket.on('error', (error) => this.#onSocketError(error));
  }

  /** Known from the hello on. */
  get instanceId(): InstanceId | null {
    return this.#instanceId;
  }

  get isLive(): boolean {
    return this.#phase === 'live';
  }

  get isEnded(): boolean {
    return this.#phase === 'ended';
  }

  /** Resolves when the socket is gone. */
  get closed(): Promise<void> {
    return this.#closed;
  }

  /** Ends the greeting: the agent is served from here on, starting with what it sent too early. */
  welcome(assignment: Assignment): void {
    if (this.#phase !== 'admitting') return;
    this.#cancelGreeting();
    this.#phase = 'live';
    this.assignment = assignment;
    this.send({ kind: 'welcome', sessionId: this.id, nowMs: this.#clock.nowMs(), assignment });
    this.#socket.resume();
  }

  /** Handles the messages that arrived between hello and welcome, in order. */
  releaseHeld(): void {
    const held = this.#held;
    this.#held = [];
    for (const { data, isBinary } of held) this.#onMessage(data, isBinary);
  }

  /** Sends to a live agent; drops one that does not read. Sending to an ended session does nothing. */
  send(message: Downstream): void {
    if (this.#phase === 'ended') return;
    const text = encodeFrame(message);
    if (this.#socket.bufferedAmount + text.length > this.#limits.maxBufferedBytes) {
      this.#log.warn({ event: 'agent-too-slow', ...this.#ids() }, 'agent does not read, connection dropped');
      this.#finish({ abrupt: false, code: ABNORMAL_CLOSURE });
      this.#socket.terminate();
      return;
    }
    this.#socket.send(text);
  }

  /** Says why, then ends. */
  refuse(refused: Omit<Refused, 'kind'>, closeCode: number): void {
    if (this.#phase === 'ended') return;
    const { code, field } = refused;
    this.#log.warn({ event: 'agent-refused', ...this.#ids(), code, field, reason: refused.message }, 'agent refused');
    this.send({ kind: 'refused', ...refused, message: refused.message.slice(0, MAX_REFUSAL_CHARS) });
    this.end(closeCode, refused.message);
  }

  /** Ends the session at once; the socket gets a moment to say goodbye. Idempotent. */
  end(code: number, reason: string): void {
    if (this.#phase === 'ended') return;
    this.#finish({ abrupt: false, code });
    this.#socket.close(code, truncateUtf8(reason, MAX_REASON_BYTES));
    // A paused socket would never read the peer's answer.
    this.#socket.resume();
    const cancel = this.#clock.after(this.#limits.closeTimeoutMs, () => this.#socket.terminate());
    this.#socket.once('close', cancel);
  }

  #onMessage(data: RawData, isBinary: boolean): void {
    if (this.#phase === 'ended') return;
    this.heardAtMonotonicMs = this.#clock.monotonicMs();
    if (this.#phase === 'admitting') {
      this.#hold({ data, isBinary });
      return;
    }
    let message: Upstream;
    try {
      message = this.#decode(data, isBinary);
    } catch (error) {
      this.#refuseFrame(toDumontError(error));
      return;
    }
    if (this.#phase === 'greeting') this.#greet(message);
    else if (message.kind === 'hello') this.#refuseFrame(new DumontError('PROTOCOL', 'hello was said already'));
    else this.#owner.message(this, message);
  }

  #decode(data: RawData, isBinary: boolean): Upstream {
    if (isBinary) throw new DumontError('PROTOCOL', 'binary messages are not part of this protocol');
    // One buffer per message is what the socket's default binaryType gives.
    const bytes = data as Buffer;
    if (bytes.length > MAX_MESSAGE_BYTES) {
      throw new DumontError('LIMIT', `message of ${bytes.length} bytes is above the limit of ${MAX_MESSAGE_BYTES}`);
    }
    return decodeFrame(upstreamSchema, bytes.toString('utf8'));
  }

  #greet(message: Upstream): void {
    if (message.kind !== 'hello') {
      const text = `the first message must be hello, not ${message.kind}`;
      this.#refuseFrame(new DumontError('PROTOCOL', text, { field: 'kind' }));
      return;
    }
    this.#phase = 'admitting';
    this.#instanceId = message.instanceId;
    this.#socket.pause();
    this.#owner.hello(this, message);
  }

  /** Pausing the socket does not stop frames that came in the same packet as the hello. */
  #hold(message: HeldMessage): void {
    if (this.#held.length < MAX_HELD_MESSAGES) this.#held.push(message);
    else this.#refuseFrame(new DumontError('PROTOCOL', `more than ${MAX_HELD_MESSAGES} messages before the welcome`));
  }

  #refuseFrame(error: DumontError): void {
    const isTooLarge = error.code === 'LIMIT';
    const refused = { code: error.code, message: error.message };
    this.refuse(
      error.field === undefined ? refused : { ...refused, field: error.field.slice(0, MAX_FIELD_CHARS) },
      isTooLarge ? CLOSE_CODES.tooLarge : CLOSE_CODES.protocol,
    );
  }

  #onGreetingTimeout(): void {
    const withinMs = `${this.#limits.greetingTimeoutMs} ms`;
    if (this.#phase === 'greeting') {
      this.refuse({ code: 'TIMEOUT', message: `no hello within ${withinMs}` }, CLOSE_CODES.helloTimeout);
    } else {
      const message = `the control plane could not check the hello within ${withinMs}`;
      this.refuse({ code: 'UNAVAILABLE', message, hint: 'Connect again.' }, CLOSE_CODES.goingAway);
    }
  }

  /** A breach of WebSocket itself (RFC 6455): the library has already sent the matching close code. */
  #onSocketError(error: Error): void {
    this.#log.warn({ event: 'agent-broke-websocket', ...this.#ids(), error }, 'agent broke the WebSocket protocol');
    this.#finish({ abrupt: false, code: CLOSE_CODES.protocol });
    const cancel = this.#clock.after(this.#limits.closeTimeoutMs, () => this.#socket.terminate());
    this.#socket.once('close', cancel);
  }

  #finish(info: { readonly abrupt: boolean; readonly code: number }): void {
    if (this.#phase === 'ended') return;
    this.#cancelGreeting();
    this.#phase = 'ended';
    this.#held = [];
    this.#owner.ended(this, info);
  }

  #ids() {
    return { sessionId: this.id, instanceId: this.#instanceId };
  }
}

interface HeldMessage {
  readonly data: RawData;
  readonly isBinary: boolean;
}

/** RFC 6455 §7.4.1: the connection ended without a close frame. */
const ABNORMAL_CLOSURE = 1006;

/** RFC 6455 §5.5: a control frame carries 125 bytes, two of them the code. */
const MAX_REASON_BYTES = 123;

/** Limits of the `refused` message. */
const MAX_REFUSAL_CHARS = 1_000;
const MAX_FIELD_CHARS = 200;

/** What fits into the packet of a hello when an agent does not wait for its welcome. */
const MAX_HELD_MESSAGES = 32;

/** The longest prefix of whole characters within the limit. */
function truncateUtf8(text: string, maxBytes: number): string {
  let cut = text.slice(0, maxBytes);
  while (Buffer.byteLength(cut) > maxBytes) cut = cut.slice(0, -1);
  return cut.toWellFormed();
}
