import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { API_PREFIX } from '@dumont/shared/api/endpoint.ts';
import { AGENT_SOCKET_PATH } from '@dumont/shared/protocol/version.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { WebSocket } from 'ws';

/** One leg of the way: slower than this, an agent would be taken for lost all the time. */
const LEG_TIMEOUT_MS = 4_000;

type LegName = 'name' | 'TCP' | 'TLS' | 'HTTP' | 'socket';

export interface ControlAddress {
  readonly url: URL;
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number;
}

/** What a leg came to. `blocked`: an earlier one failed, so that this one was not tried. */
export type Leg<T> =
  | { readonly kind: 'reached'; readonly value: T }
  | { readonly kind: 'failed'; readonly code: string }
  | { readonly kind: 'blocked'; readonly by: string };

export interface Certificate {
  readonly validFromMs: number;
  readonly validToMs: number;
  /** Why this computer does not trust it; null when it does. */
  readonly distrust: string | null;
}

export interface HttpAnswer {
  readonly status: number;
  /** How far the control plane's clock is ahead, ms, to the second; null without its time. */
  readonly clockAheadMs: number | null;
  /** Of the control plane; null when something else answered. */
  readonly version: string | null;
}

/** The way from this computer to the control plane, leg by leg; each is walked once, however many ask. */
export class ControlPath {
  /** As it was configured; null when it was not, or is no address. */
  readonly address: ControlAddress | null;
  readonly isGiven: boolean;
  readonly #clock: Clock;
  readonly #legs = new Map<LegName, Promise<Leg<unknown>>>();

  constructor(controlUrl: string | undefined, clock: Clock) {
    this.isGiven = controlUrl !== undefined;
    this.address = controlUrl === undefined ? null : parseControlUrl(controlUrl);
    this.#clock = clock;
  }

  /** The host's addresses. */
  resolve(): Promise<Leg<readonly string[]>> {
    return this.#leg('name', null, async ({ host }) => {
      if (isIP(host) !== 0) return [host];
      return (await lookup(host, { all: true })).map(({ address }) => address);
    });
  }

  /** How long a TCP connection took, ms. */
  dial(): Promise<Leg<number>> {
    return this.#leg('TCP', this.resolve(), async ({ host, port }, signal) => {
      const startedMs = this.#clock.monotonicMs();
      using _socket = await connected(connectTcp({ host, port }), 'connect', signal);
      return this.#clock.monotonicMs() - startedMs;
    });
  }

  /** The server's certificate, trusted or not; null without TLS. */
  shakeHands(): Promise<Leg<Certificate | null>> {
    return this.#leg('TLS', this.dial(), async ({ host, port, isTls }, signal) => {
      if (!isTls) return null;
      // What is wrong with a certificate shows only to who looks at it all the same; nothing is sent to this server.
      const socket = connectTls({ host, port, servername: isIP(host) === 0 ? host : '', rejectUnauthorized: false });
      using _socket = await connected(socket, 'secureConnect', signal);
      const { valid_from: from, valid_to: to } = socket.getPeerCertificate();
      const error: unknown = socket.authorizationError;
      const distrust = socket.authorized ? null : error instanceof Error ? codeOf(error) : String(error);
      return { validFromMs: Date.parse(from), validToMs: Date.parse(to), distrust };
    });
  }

  /** What answers at the API's address. */
  ask(): Promise<Leg<HttpAnswer>> {
    return this.#leg('HTTP', this.#trusted(), async ({ url }, signal) => {
      const sentMs = this.#clock.nowMs();
      const response = await fetch(addressOf(url, `${API_PREFIX}/health`), { signal, redirect: 'manual' });
      const receivedMs = this.#clock.nowMs();
      const body = tryParseJson((await response.text()).slice(0, 10_000));
      const serverMs = Date.parse(response.headers.get('date') ?? '');
      // The header tells whole seconds: on average it is half of one behind.
      const clockAheadMs = Number.isNaN(serverMs) ? null : Math.round(serverMs + 500 - (sentMs + receivedMs) / 2);
      return { status: response.status, clockAheadMs, version: versionIn(body) };
    });
  }

  /** Opens the agent's socket and closes it without a word. */
  openSocket(): Promise<Leg<null>> {
    return this.#leg('socket', this.ask(), async ({ url }, signal) => {
      const socket = new WebSocket(addressOf(url, AGENT_SOCKET_PATH).replace(/^http/, 'ws'), {
        followRedirects: false,
      });
      try {
        await once(socket, 'open', { signal });
        return null;
      } finally {
        socket.on('error', () => {});
        socket.terminate();
      }
    });
  }

  /** A certificate that is not trusted ends the way. */
  async #trusted(): Promise<Leg<unknown>> {
    const leg = await this.shakeHands();
    const distrust = leg.kind === 'reached' ? (leg.value?.distrust ?? null) : null;
    return distrust === null ? leg : { kind: 'failed', code: distrust };
  }

  #leg<T>(
    name: LegName,
    before: Promise<Leg<unknown>> | null,
    walk: (address: ControlAddress, signal: AbortSignal) => Promise<T>,
  ): Promise<Leg<T>> {
    const known = this.#legs.get(name);
    if (known !== undefined) return known as Promise<Leg<T>>;
    const leg = this.#walk(before, walk, name);
    this.#legs.set(name, leg);
    return leg;
  }

  async #walk<T>(
    before: Promise<Leg<unknown>> | null,
    walk: (address: ControlAddress, signal: AbortSignal) => Promise<T>,
    name: LegName,
  ): Promise<Leg<T>> {
    if (this.address === null) return { kind: 'blocked', by: 'the address' };
    const prior = await before;
    if (prior?.kind === 'blocked') return prior;
    if (prior?.kind === 'failed') return { kind: 'blocked', by: BEFORE[name] };
    using deadline = new Deadline(this.#clock, LEG_TIMEOUT_MS);
    try {
      return { kind: 'reached', value: await walk(this.address, deadline.signal) };
    } catch (error) {
      return { kind: 'failed', code: deadline.expired ? 'ETIMEDOUT' : codeOf(error) };
    }
  }
}

/** Accepts what the agent accepts; null for anything else. Pure. */
export function parseControlUrl(text: string): ControlAddress | null {
  if (!/^(?:ws|http)s?:\/\//.test(text) || !URL.canParse(text)) return null;
  const url = new URL(text.replace(/^ws/, 'http'));
  const isTls = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { url, isTls, host, port: url.port === '' ? (isTls ? 443 : 80) : Number(url.port) };
}

/** An address without the user and password that a URL may carry. Pure. */
export function publicUrl({ url }: ControlAddress): string {
  const plain = new URL(url);
  plain.username = '';
  plain.password = '';
  return `${plain.origin}${plain.pathname === '/' ? '' : plain.pathname}`;
}

function addressOf(base: URL, path: string): string {
  const url = new URL(base);
  url.pathname = url.pathname.replace(/\/$/, '') + path;
  url.username = '';
  url.password = '';
  return url.href;
}

/** Which leg comes before, by the name of the one that waits for it. */
const BEFORE: Readonly<Record<LegName, string>> = {
  name: 'the address',
  TCP: 'the name',
  TLS: 'TCP',
  HTTP: 'TLS',
  socket: 'HTTP',
};

async function connected(socket: Socket, event: string, signal: AbortSignal): Promise<Disposable> {
  const destroy = () => {
    socket.on('error', () => {});
    socket.destroy();
  };
  try {
    await once(socket, event, { signal });
    return { [Symbol.dispose]: destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}

function versionIn(body: unknown): string | null {
  if (typeof body !== 'object' || body === null || !('version' in body)) return null;
  return typeof body.version === 'string' ? body.version.slice(0, 64) : null;
}

/** The most telling code of an error: of its cause, when `fetch` wraps it. */
function codeOf(error: unknown): string {
  const inner = error instanceof Error && error.cause !== undefined ? systemErrorCode(error.cause) : undefined;
  return inner ?? systemErrorCode(error) ?? (error instanceof Error ? error.message : String(error));
}
