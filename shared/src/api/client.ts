import type { BackoffPolicy } from '../util/backoff.ts';
import { backoffMs } from '../util/backoff.ts';
import type { Clock } from '../util/clock.ts';
import { systemClock } from '../util/clock.ts';
import { Deadline } from '../util/deadline.ts';
import { DumontError, isDumontError } from '../util/errors.ts';
import type { Random } from '../util/random.ts';
import { systemRandom } from '../util/random.ts';
import { tryParseJson } from '../util/try-json.ts';
import { describeIssues } from '../util/zod-issues.ts';
import type { CallArguments, ResponseOf } from './call.ts';
import { API_PREFIX } from './endpoint.ts';
import type { EndpointName } from './endpoints.ts';
import { ENDPOINTS, EVENT_STREAM_PATH } from './endpoints.ts';
import { abortedError, answerError, unreachableError, unreadableError } from './client-errors.ts';
import { readServerSentEvents } from './server-sent-events.ts';
import type { EventView } from './views.ts';
import { eventViewSchema } from './views.ts';

/** The API as typed calls; works in Node and in browsers. */
export interface ApiClient {
  /**
   * One call of the endpoint table; the answer is validated.
   * @throws {DumontError} the problem's own code, hint and field for an error answer; UNAVAILABLE when nobody answers,
   *   TIMEOUT, ABORTED by the caller's signal, PROTOCOL for an answer that is not this API's
   */
  call<Name extends EndpointName>(name: Name, ...input: CallArguments<Name>): Promise<ResponseOf<Name>>;
  /**
   * Live events, oldest first, each once. A lost connection is taken up again after the last event seen, with growing
   * pauses, for as long as the signal allows; then the iteration ends normally.
   * @throws {DumontError} when the first connection fails, or the server refuses (token, workspace)
   */
  events(options?: EventsOptions): AsyncIterable<EventView>;
}

export interface EventsOptions {
  /** Id of the last event already seen; without it, only events from now on. */
  readonly after?: number | undefined;
  /** Only this workspace's, by id or name. */
  readonly workspace?: string | undefined;
  /** Told when the stream is up and when it is lost. */
  readonly onState?: ((state: 'connected' | 'reconnecting') => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ApiClientOptions {
  /** Where the control plane is, for example `http://127.0.0.1:8766`; a path in it is kept as a prefix. */
  readonly baseUrl: string;
  readonly token?: string | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
  /** Ends every call and stream of this client. */
  readonly signal?: AbortSignal | undefined;
}

/** A call that takes longer than this is a server in trouble, save those that say otherwise. */
const DEFAULT_TIMEOUT_MS = 30_000;
/** The server writes at least every 15 s: three times that in silence is a dead connection. */
const STREAM_SILENCE_MS = 45_000;
const RECONNECT: BackoffPolicy = { baseMs: 200, capMs: 10_000 };

/** @throws {DumontError} USAGE when the base URL is not an http(s) URL */
export function createApiClient(options: ApiClientOptions): ApiClient {
  return new HttpApiClient(options);
}

class HttpApiClient implements ApiClient {
  readonly #baseUrl: string;
  readonly #token: string | undefined;
  readonly #fetch: typeof globalThis.fetch;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #signal: AbortSignal | undefined;

  constructor(options: ApiClientOptions) {
    if (!/^https?:\/\//.test(options.baseUrl) || !URL.canParse(options.baseUrl)) {
      throw new DumontError('USAGE', `"${options.baseUrl}" is not an http:// or https:// URL`, { field: 'url' });
    }
    this.#baseUrl = options.baseUrl.replace(/\/+$/, '');
    this.#token = options.token;
    // Called as a bare function: a browser refuses fetch with another `this`.
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? systemRandom;
    this.#signal = options.signal;
  }

  async call<Name extends EndpointName>(name: Name, ...[input]: CallArguments<Name>): Promise<ResponseOf<Name>> {
    const given = (input ?? {}) as AnyCallInput;
    const endpoint = ENDPOINTS[name];
    const url = this.#url(fillPath(endpoint.path, given.params ?? {}), given.query ?? {});
    const body = given.body === undefined ? undefined : JSON.stringify(given.body);
    using deadline = this.#deadline(given.timeoutMs ?? DEFAULT_TIMEOUT_MS, given.signal);
    const doing = `${endpoint.method} ${endpoint.path}`;
    const response = await this.#send(url, { method: endpoint.method, body }, deadline);
    const text = await response.text().catch((error: unknown) => this.#fail(error, deadline, doing));
    if (!response.ok) throw answerError(response.status, text, this.#baseUrl);
    const answer = endpoint.response.safeParse(tryParseJson(text));
    if (!answer.success) throw unreadableError(doing, this.#baseUrl, describeIssues(answer.error).summary);
    return answer.data as ResponseOf<Name>;
  }

  async *events(options: EventsOptions = {}): AsyncIterable<EventView> {
    const stop = anySignal(options.signal, this.#signal);
    let lastId = options.after === undefined ? '' : String(options.after);
    let wasConnected = false;
    for (let attempt = 0; !stop.aborted; attempt += 1) {
      try {
        for await (const message of this.#stream(lastId, options.workspace, stop)) {
          if (message.kind === 'opened') {
            wasConnected = true;
            options.onState?.('connected');
            continue;
          }
          attempt = 0;
          lastId = message.id;
          if (message.event !== undefined) yield message.event;
        }
      } catch (error) {
        if (stop.aborted) return;
        if (!wasConnected || !isDumontError(error) || !error.retryable) throw error;
      }
      if (stop.aborted) return;
      options.onState?.('reconnecting');
      await this.#clock.sleep(backoffMs(attempt, RECONNECT, this.#random), stop).catch(() => {});
    }
  }

  /** One connection's worth of events. */
  async *#stream(lastId: string, workspace: string | undefined, stop: AbortSignal): AsyncIterable<StreamItem> {
    using deadline = this.#deadline(STREAM_SILENCE_MS, stop);
    const url = this.#url(EVENT_STREAM_PATH, { workspace });
    const response = await this.#send(
      url,
      { method: 'GET', headers: lastId === '' ? {} : { 'last-event-id': lastId } },
      deadline,
    );
    if (!response.ok) throw answerError(response.status, await response.text().catch(() => ''), this.#baseUrl);
    if (response.body === null || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
      throw unreadableError('the event stream', this.#baseUrl, 'it is not a stream of events');
    }
    yield { kind: 'opened' };
    const chunks = this.#watched(response.body, deadline);
    for await (const message of readServerSentEvents(chunks)) {
      if (message.data === '') {
        yield { kind: 'message', id: message.id, event: undefined };
        continue;
      }
      const event = eventViewSchema.safeParse(tryParseJson(message.data));
      if (!event.success) throw unreadableError('an event', this.#baseUrl, describeIssues(event.error).summary);
      yield { kind: 'message', id: message.id, event: event.data };
    }
  }

  /** The body's chunks; every one of them puts off the deadline. */
  async *#watched(body: ReadableStream<Uint8Array>, deadline: Deadline): AsyncIterable<Uint8Array> {
    const reader = body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader
          .read()
          .catch((error: unknown) => this.#fail(error, deadline, 'the event stream'));
        if (done) return;
        deadline.extend();
        yield value;
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
  }

  async #send(url: string, init: SendInit, deadline: Deadline): Promise<Response> {
    const headers: Record<string, string> = { accept: 'application/json, text/event-stream', ...init.headers };
    if (this.#token !== undefined) headers['authorization'] = `Bearer ${this.#token}`;
    if (init.body !== undefined) headers['content-type'] = 'application/json';
    try {
      const { method, body = null } = init;
      return await this.#fetch(url, { method, body, headers, signal: deadline.signal, redirect: 'error' });
    } catch (error) {
      return this.#fail(error, deadline, `${init.method} ${url}`);
    }
  }

  #fail(error: unknown, deadline: Deadline, doing: string): never {
    if (deadline.expired) {
      throw new DumontError('TIMEOUT', `${doing}: no answer from ${this.#baseUrl} in time`, {
        retryable: true,
        hint: 'The control plane may be overloaded or the network slow; try again.',
        cause: error,
      });
    }
    if (deadline.signal.aborted) throw abortedError(doing, error);
    throw unreachableError(this.#baseUrl, error);
  }

  #url(path: string, query: QueryValues): string {
    const search = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) search.set(key, String(value));
    }
    const text = search.toString();
    return `${this.#baseUrl}${API_PREFIX}${path}${text === '' ? '' : `?${text}`}`;
  }

  #deadline(ms: number, signal: AbortSignal | undefined): Deadline {
    return new Deadline(this.#clock, ms, anySignal(signal, this.#signal));
  }
}

type StreamItem =
  | { readonly kind: 'opened' }
  | { readonly kind: 'message'; readonly id: string; readonly event: EventView | undefined };

type QueryValues = Readonly<Record<string, string | number | undefined>>;

/** A call's input with the endpoint forgotten. */
interface AnyCallInput {
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: QueryValues;
  readonly body?: unknown;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

interface SendInit {
  readonly method: string;
  readonly body?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

function anySignal(...signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((signal) => signal !== undefined));
}

function fillPath(path: string, params: Readonly<Record<string, string>>): string {
  return path.replace(/:(\w+)/g, (_, name: string) => {
    const value = params[name] ?? '';
    if (value === '') throw new DumontError('USAGE', `${name} must not be empty`, { field: name });
    return encodeURIComponent(value);
  });
}
