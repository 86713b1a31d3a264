import type { Clock } from '@dumont/shared/util/clock.ts';

/** What a server is asked with. */
export interface AskOptions {
  /** Address of this machine that the workload listens on. */
  readonly host: string;
  readonly clock: Clock;
  /** Of a vLLM server that was started with one. */
  readonly apiKey?: string | undefined;
}

/** What one question to a server came to. */
export type Answer<Good> =
  | { readonly kind: 'good'; readonly value: Good }
  /** It may be better in a moment: the server or the model is still being loaded. */
  | { readonly kind: 'not-yet'; readonly why: string }
  /** Asking again gives the same. */
  | { readonly kind: 'never'; readonly why: string };

/** What a model generated. */
export interface Generated {
  /** From the request to the first token. */
  readonly firstTokenMs: number;
  readonly tokens: number;
}

/** One conversation with a server, told in two questions. Both throw {DumontError} UNAVAILABLE without a connection. */
export interface ModelServer {
  /** Is it up, and does it know the model? */
  ready(signal: AbortSignal): Promise<Answer<null>>;
  /** Has the model generate a few tokens. */
  generate(signal: AbortSignal): Promise<Answer<Generated>>;
}

/** Enough to see that it generates; a check is no benchmark. */
export const MAX_TOKENS = 16;

/** What a server says besides the status, for an error message. */
export function excerpt(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim().slice(0, 500);
}
