import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { readBounded } from './read-bounded.ts';
import { RequestPace, type PaceRule } from './request-pace.ts';
import { retryAfterMs } from './retry-after.ts';

/** Longest wait for one answer: marketplaces take some seconds over an order, and a proxy in between hangs for minutes. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Tries of one call, the first included: with the pauses below, about a minute of being throttled or down. */
const MAX_TRIES = 5;

/** Pauses before a repeatable call is made again after a failure that may pass: 1, 2, 4, 8 s at most. */
const RETRY_BACKOFF = { baseMs: 1_000, capMs: 8_000 } as const;

/** After a 429 that names no time; and how much later than it says, at most, so that clients spread out. */
const THROTTLED_MS = 5_000;
const THROTTLED_JITTER_MS = 500;
/** Longer than this nobody waits for: the caller hears that the provider throttles. */
const MAX_THROTTLED_MS = 60_000;

/** A page of a marketplace is some hundred KiB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

/** Of an answer that is quoted in a message. */
const MAX_QUOTED = 300;

export interface JsonClientOptions<Endpoint extends string> {
  /** For messages: `Vast.ai`. */
  readonly name: string;
  /** Origin and, where there is one, the path that all calls begin with; no slash at the end. */
  readonly baseUrl: string;
  /** Sent with every call: authorization above all. */
  readonly headers: Readonly<Record<string, string>>;
  /** Texts that no message may hold. */
  readonly secrets: readonly string[];
  /** Classes of endpoints that share a limit, and the limit of each. */
  readonly limits: Readonly<Record<Endpoint, PaceRule>>;
  /** How long a 429 asks to wait, where the provider says so elsewhere than in `Retry-After`, ms. */
  readonly throttledMs?: (answerText: string) => number | undefined;
  readonly clock: Clock;
  readonly random: Random;
}

export interface JsonRequest<Endpoint extends string> {
  readonly endpoint: Endpoint;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below the base URL, with its query. */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** For messages: `destroying 31600001`. */
  readonly doing: string;
  /** Making the call twice does what making it once does: it is repeated when no clear answer came. */
  readonly repeatable: boolean;
}

/** What the provider said, whatever the status: only the adapter knows what a 404 means. */
export interface JsonAnswer {
  readonly status: number;
  /** Undefined when the answer is no JSON: proxies say what they have to say in HTML. */
  readonly body: unknown;
  /** The beginning of the text, for messages; without secrets. */
  readonly quoted: string;
}

/**
 * JSON over HTTP with one account of a provider: each class of endpoints at its own pace, 429 waited out (such a call
 * was not carried out), what may pass repeated where that is safe, and no secret in any message. One object per
 * account and process, as limits hold for both together.
 */
export class JsonClient<Endpoint extends string> {
  readonly #options: JsonClientOptions<Endpoint>;
  readonly #paces: ReadonlyMap<Endpoint, RequestPace>;

  constructor(options: JsonClientOptions<Endpoint>) {
    this.#options = options;
    const limits = Object.entries(options.limits) as [Endpoint, PaceRule][];
    this.#paces = new Map(limits.map(([endpoint, rule]) => [endpoint, new RequestPace(rule, options.clock)]));
  }

  /**
   * Makes one call and returns its answer if that is below 500 and no 429.
   * @throws {DumontError} UNAVAILABLE, retryable, when there was no clear answer: after that, a call which is not
   *   repeatable may have been carried out; LIMIT, retryable, when the provider throttled it to the end: it was not
   *   carried out. The signal's reason when that aborts
   */
  async send(request: JsonRequest<Endpoint>, { signal }: { readonly signal: AbortSignal }): Promise<JsonAnswer> {
    const { clock, random } = this.#options;
    const pace = this.#paces.get(request.endpoint);
    if (pace === undefined) throw new DumontError('INTERNAL', `endpoint ${request.endpoint} has no limit`);
    for (let tries = 1; ; tries += 1) {
      const attempt = await pace.run(() => this.#attempt(request, signal), signal);
      if (attempt.kind === 'answer') return attempt.answer;
      if (attempt.kind === 'throttled') {
        if (tries >= MAX_TRIES || attempt.waitMs > MAX_THROTTLED_MS) {
          throw new DumontError('LIMIT', `${attempt.message}, ${tries} times`, { retryable: true });
        }
        pace.holdOff(attempt.waitMs + random.next() * THROTTLED_JITTER_MS);
        continue;
      }
      if (!request.repeatable || tries >= MAX_TRIES) throw attempt.error;
      await clock.sleep(backoffMs(tries - 1, RETRY_BACKOFF, random), signal);
    }
  }

  async #attempt(request: JsonRequest<Endpoint>, signal: AbortSignal): Promise<Attempt> {
    const where = `${request.doing} at ${this.#options.name}`;
    using deadline = new Deadline(this.#options.clock, ANSWER_TIMEOUT_MS, signal);
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(request, deadline.signal);
      text = await readBounded(response, MAX_ANSWER_BYTES);
    } catch (error) {
      signal.throwIfAborted();
      const why = deadline.expired ? `no answer within ${ANSWER_TIMEOUT_MS} ms` : this.#redact(reasonOf(error));
      return { kind: 'unclear', error: new DumontError('UNAVAILABLE', `${where}: ${why}`, { retryable: true }) };
    }
    const { status } = response;
    const quoted = this.#redact(text.slice(0, MAX_QUOTED));
    if (status === 429) {
      const waitMs =
        retryAfterMs(response.headers.get('retry-after'), this.#options.clock.nowMs()) ??
        this.#options.throttledMs?.(text) ??
        THROTTLED_MS;
      return { kind: 'throttled', waitMs, message: `${where}: too many calls` };
    }
    if (status >= 500) {
      const error = new DumontError('UNAVAILABLE', `${where}: ${status} ${quoted}`, { retryable: true });
      return { kind: 'unclear', error };
    }
    return { kind: 'answer', answer: { status, body: tryParseJson(text), quoted } };
  }

  #fetch({ method, path, body }: JsonRequest<Endpoint>, signal: AbortSignal): Promise<Response> {
    const { baseUrl, headers } = this.#options;
    return fetch(baseUrl + path, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      // A redirect would carry the key to wherever it points.
      redirect: 'error',
      signal,
    });
  }

  #redact(text: string): string {
    let redacted = text;
    for (const secret of this.#options.secrets) {
      if (secret !== '') redacted = redacted.replaceAll(secret, '[secret]');
    }
    return redacted;
  }
}

type Attempt =
  | { readonly kind: 'answer'; readonly answer: JsonAnswer }
  | { readonly kind: 'throttled'; readonly waitMs: number; readonly message: string }
  | { readonly kind: 'unclear'; readonly error: DumontError };

/** `fetch` says nothing but "fetch failed"; what happened is in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && cause.message !== '' ? cause.message : error.message;
}
