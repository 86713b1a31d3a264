import type { z } from 'zod';

/** Names of the `:params` in a path. */
export type PathParams<Path extends string> = Path extends `${string}:${infer Name}/${infer Rest}`
  ? Name | PathParams<`/${Rest}`>
  : Path extends `${string}:${infer Name}`
    ? Name
    : never;

/** One REST operation: the server mounts it, the clients call through it, the OpenAPI document is made from it. */
export interface Endpoint {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below `/api/v1`, with `:name` parameters. */
  readonly path: string;
  readonly summary: string;
  /** False only where no token is needed. */
  readonly auth: boolean;
  readonly successStatus: 200 | 201 | 202;
  readonly query: z.ZodType;
  readonly body: z.ZodType;
  readonly response: z.ZodType;
}

export const API_PREFIX = '/api/v1';

/** Largest request body the API reads, bytes. */
export const MAX_BODY_BYTES = 262_144;
