import { DumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import type { z } from 'zod';

/** Longest wait for an answer of a storage provider's own API. */
const TIMEOUT_MS = 10_000;

export interface JsonCall<Answer> {
  readonly url: string;
  /** What it is for, for messages: `making a key`. */
  readonly doing: string;
  readonly authorization: string;
  /** Sent as JSON by POST; absent: a GET. */
  readonly body?: unknown;
  readonly answer: z.ZodType<Answer>;
  readonly hint: string;
  readonly signal: AbortSignal;
}

/** The status of a refusal, for callers that know what to do about one. */
export class JsonCallRefused extends DumontError {
  readonly status: number;

  constructor(status: number, message: string, hint: string) {
    super('UNAUTHORIZED', message, { hint });
    this.status = status;
  }
}

/**
 * One call of a storage provider's JSON API.
 * @throws {JsonCallRefused} for 4xx; {@link DumontError} UNAVAILABLE, retryable, for everything that may pass; PROVIDER for
 * an answer that is not understood. No message holds a secret.
 */
export async function callJson<Answer>(call: JsonCall<Answer>): Promise<Answer> {
  const { url, doing, authorization, body, hint } = call;
  const where = `${doing} at ${new URL(url).origin}`;
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: 'error',
      signal: AbortSignal.any([call.signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    text = await response.text();
  } catch (error) {
    throw new DumontError('UNAVAILABLE', `${where} failed: no answer`, { retryable: true, cause: error });
  }
  const { status } = response;
  // Refusals are quoted, answers never: those hold the keys.
  const said = `${where} failed: ${status} ${text.slice(0, 300)}`;
  if (status === 408 || status === 429 || status >= 500) {
    throw new DumontError('UNAVAILABLE', said, { retryable: true });
  }
  if (!response.ok) throw new JsonCallRefused(status, said, hint);
  const parsed = call.answer.safeParse(tryParseJson(text));
  if (parsed.success) return parsed.data;
  throw new DumontError('PROVIDER', `${where} was answered with something else than expected`);
}
