import { nextState } from '@dumont/shared/model/transition.ts';
import { decodeFrame, encodeFrame } from '@dumont/shared/protocol/frame.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import type { Hello, Refused } from '@dumont/shared/protocol/hello.ts';
import { type Downstream, downstreamSchema, type Upstream } from '@dumont/shared/protocol/messages.ts';
import { CLOSE_CODES, MAX_MESSAGE_BYTES } from '@dumont/shared/protocol/version.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { type RawData, WebSocket } from 'ws';
import type { BeatBoard } from './beat-board.ts';
import { endOfClose, type LinkEnd } from './link-end.ts';
import { LINK_TABLE, type LinkEvent, type LinkState } from './link-state.ts';
import { isPerishable, Outbox } from './outbox.ts';
import type { FromLink, LinkTrouble, StopReason } from './thread-messages.ts';

/** A fleet must not storm a control plane that restarts, and one agent must be back within seconds. */
const RECONNECT = { baseMs: 100, capMs: 5_000 } as const;
/** Acks answer beats, about once a second; five missed ones mean that nobody is there. */
const ACK_SILENCE_MS = 5_000;
/** Where beats are rarer than that, so are acks. */
const ACK_SILENCE_BEATS = 3;
/** TCP, TLS and WebSocket handshakes are four round trips; then the welcome is one database read. */
const HANDSHAKE_TIMEOUT_MS = 3_000;
const WELCOME_TIMEOUT_MS = 5_000;
/** A close frame that is not answered within this is not waited for. */
const CLOSE_TIMEOUT_MS = 500;
/** A peer that reads this slowly gets no more telemetry until it has caught up. */
const PERISHABLE_BUFFER_BYTES = 262_144;
/** After words we do not understand, start the backoff where windows are seconds: the next words will be the same. */
const PROTOCOL_FAULT_ATTEMPT = 5;

export interface LinkRunnerOptions {
  /** Full ws:// or wss:// URL of the agent socket. */
  readonly url: string;
  /** Of the start; later hellos carry the highest epoch heard since, and the newest credential. */
  readonly hello: Hello;
  readonly board: BeatBoard;
  readonly clock: Clock;
  readonly random: Random;
  readonly emit: (event: FromLink) => void;
}

/**
 * Keeps one WebSocket to the control plane: connects, greets, beats from its own timer, notices a half-open socket,
 * reconnects with jittered backoff, and ends for good when told that retrying cannot help.
 */
export class LinkRunner {
  readonly #options: LinkRunnerOptions;
  readonly #outbox = new Outbox();
  #state: LinkState = 'idle';
  #socket: WebSocket | null = null;
  #attempt = 0;
  #seq = 0;
  #highestEpoch: number;
  #hello: Hello;
  #refused: Refused | null = null;
  #lastAckMs = 0;
  #lastPulse = { value: -1n, seenMs: 0 };
  #heartbeatIntervalMs = 0;
  #cancelBeat = () => {};
  #cancelTimer = () => {};

  constructor(options: LinkRunnerOptions) {
    this.#options = options;
    this.#highestEpoch = options.hello.lastEpoch;
    this.#hello = options.hello;
  }

  start(): void {
    if (this.#step('start')) this.#connect();
  }

  /** Sends now when online, else once the link is back; the outbox says what is kept. */
  send(message: Upstream): void {
    if (this.#state !== 'online' || this.#socket === null) {
      if (this.#state !== 'closed') this.#outbox.push(message);
      return;
    }
    if (isPerishable(message) && this.#socket.bufferedAmount > PERISHABLE_BUFFER_BYTES) return;
    this.#write(message);
  }

  /** Greets with this credential from the next connection on. */
  useCredential(credential: string): void {
    this.#hello = { ...this.#hello, credential };
  }

  /** Closes in good order, after what was sent before. Idempotent. */
  stop(reason: StopReason = 'stopped'): void {
    const message = reason === 'restarting' ? 'the agent restarts' : 'the agent stops';
    this.#end({ reason, message });
  }

  #connect(): void {
    const { url, clock } = this.#options;
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_BYTES,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    this.#socket = socket;
    this.#refused = null;
    let failure = '';
    socket.on('upgrade', (response) => response.socket.setNoDelay(true));
    socket.on('open', () => {
      if (socket !== this.#socket || !this.#step('opened')) return;
      this.#write({ ...this.#hello, lastEpoch: this.#highestEpoch });
      this.#cancelTimer = clock.after(WELCOME_TIMEOUT_MS, () =>
        this.#lose({ doing: 'greet', message: `no welcome within ${WELCOME_TIMEOUT_MS} ms` }),
      );
    });
    socket.on('message', (data, isBinary) => {
      if (socket === this.#socket) this.#receive(data, isBinary);
    });
    socket.on('error', (error) => {
      failure = error.message;
    });
    socket.on('close', (code, reason) => {
      if (socket !== this.#socket) return;
      const end = endOfClose(code, this.#refused);
      if (end !== null) {
        this.#end(end);
        return;
      }
      const words = this.#refused?.message ?? (reason.toString() || failure || `closed with code ${code}`);
      const doing = this.#state === 'connecting' ? 'connect' : this.#state === 'greeting' ? 'greet' : 'beat';
      this.#lose({ doing, message: words });
    });
  }

  #receive(data: RawData, isBinary: boolean): void {
    let message: Downstream;
    try {
      if (isBinary) throw toDumontError('binary messages are not part of the protocol', 'PROTOCOL');
      message = decodeFrame(downstreamSchema, textOf(data));
    } catch (error) {
      this.#attempt = Math.max(this.#attempt, PROTOCOL_FAULT_ATTEMPT);
      const words = toDumontError(error).message;
      this.#socket?.close(CLOSE_CODES.protocol, words.slice(0, 100));
      this.#lose({ doing: 'decode', message: words });
      return;
    }
    switch (message.kind) {
      case 'welcome':
        this.#hearEpoch(message.assignment.epoch);
        this.#onWelcome(message.assignment.policy.heartbeatIntervalMs);
        break;
      case 'assign':
        this.#hearEpoch(message.assignment.epoch);
        this.#beatEvery(message.assignment.policy.heartbeatIntervalMs);
        break;
      case 'heartbeat-ack':
        this.#hearEpoch(message.epoch);
        this.#lastAckMs = this.#options.clock.monotonicMs();
        break;
      case 'snapshot-verdict':
        if (message.verdict.kind === 'stale-epoch') this.#hearEpoch(message.verdict.epoch);
        break;
      case 'refused':
        this.#refused = message;
        break;
      case 'command':
      case 'credential-accepted':
        break;
    }
    this.#options.emit({ type: 'message', message });
  }

  #onWelcome(heartbeatIntervalMs: number): void {
    if (!this.#step('welcomed')) return;
    this.#cancelTimer();
    // Told once: a reconnect is no second upgrade.
    const { lastUpgrade: _told, ...hello } = this.#hello;
    this.#hello = hello;
    this.#attempt = 0;
    this.#lastAckMs = this.#options.clock.monotonicMs();
    this.#heartbeatIntervalMs = 0;
    this.#beatEvery(heartbeatIntervalMs);
    for (const message of this.#outbox.drain()) this.#write(message);
  }

  #beatEvery(intervalMs: number): void {
    if (this.#state !== 'online' || intervalMs === this.#heartbeatIntervalMs) return;
    this.#heartbeatIntervalMs = intervalMs;
    this.#cancelBeat();
    this.#beat();
    this.#cancelBeat = this.#options.clock.every(intervalMs, () => this.#beat());
  }

  #beat(): void {
    const nowMs = this.#options.clock.monotonicMs();
    const silenceMs = nowMs - this.#lastAckMs;
    if (silenceMs > Math.max(ACK_SILENCE_MS, ACK_SILENCE_BEATS * this.#heartbeatIntervalMs)) {
      this.#lose({ doing: 'beat', message: `no heartbeat-ack for ${Math.round(silenceMs)} ms: half-open connection` });
      return;
    }
    const pulse = this.#options.board.pulse();
    if (pulse !== this.#lastPulse.value) this.#lastPulse = { value: pulse, seenMs: nowMs };
    const mainLagMs = nowMs - this.#lastPulse.seenMs;
    const fields = this.#options.board.read();
    const beat: Heartbeat = {
      kind: 'heartbeat',
      seq: this.#seq,
      monotonicMs: nowMs,
      mainLagMs,
      ...fields,
      unsavedMs: fields.unsavedMs === 0 ? 0 : fields.unsavedMs + mainLagMs,
    };
    const behindMs = fields.standbyBehindMs ?? 0;
    if (behindMs > 0) beat.standbyBehindMs = behindMs + mainLagMs;
    // A main thread that hangs hears nobody: its last word on the primary is worth nothing.
    if (mainLagMs > 0) delete beat.peer;
    this.#seq += 1;
    this.#write(beat);
  }

  #write(message: Upstream): void {
    // A failed write is followed by the socket's close event, which is where loss is handled.
    this.#socket?.send(encodeFrame(message), () => {});
  }

  #hearEpoch(epoch: number): void {
    this.#highestEpoch = Math.max(this.#highestEpoch, epoch);
  }

  /** Gives the connection up and schedules the next attempt. */
  #lose(trouble: Omit<LinkTrouble, 'retryInMs'>): void {
    const { clock, random, emit } = this.#options;
    this.#dropSocket();
    if (!this.#step('lost')) return;
    const retryInMs = backoffMs(this.#attempt, RECONNECT, random);
    this.#attempt += 1;
    emit({ type: 'trouble', trouble: { ...trouble, retryInMs: Math.round(retryInMs) } });
    this.#cancelTimer = clock.after(retryInMs, () => {
      if (this.#step('retry')) this.#connect();
    });
  }

  #end(end: LinkEnd): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#cancelBeat();
    this.#cancelTimer();
    if (!this.#step('ended')) return;
    const { emit, clock } = this.#options;
    if (socket === null || socket.readyState === WebSocket.CLOSED) {
      emit({ type: 'ended', end });
      return;
    }
    const cancel = clock.after(CLOSE_TIMEOUT_MS, () => socket.terminate());
    socket.once('close', () => {
      cancel();
      emit({ type: 'ended', end });
    });
    socket.close(end.reason === 'restarting' ? CLOSE_CODES.restarting : 1000, end.reason);
  }

  #dropSocket(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#cancelBeat();
    this.#cancelTimer();
    // A polite close would wait for the other side, which may be gone; a close under way gets to finish.
    if (socket !== null && socket.readyState < WebSocket.CLOSING) socket.terminate();
  }

  /** True when the event changed the state. */
  #step(event: LinkEvent): boolean {
    const state = nextState(LINK_TABLE, this.#state, event);
    if (state === this.#state) return false;
    this.#state = state;
    this.#options.emit({ type: 'state', state });
    return true;
  }
}

function textOf(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString();
  return data instanceof ArrayBuffer ? Buffer.from(data).toString() : data.toString();
}
