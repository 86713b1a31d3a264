import { z } from 'zod';
import { MAX_FRAME_RAW_BYTES } from '../format/lz4-frame.ts';
import { DumontError } from '../util/errors.ts';
import { describeIssues } from '../util/zod-issues.ts';
import { countSchema } from './primitives.ts';

/**
 * A standby gives the chunks it holds to a machine that restores, by their ids. The reader asks, the standby answers each
 * request in turn: its chunks as binary messages, as in sync with the request for the stage and the place in the request
 * for the offset, then `done`; or `missed`, for a request of which it lacks something.
 */
export const CHUNK_SOCKET_PATH = '/chunks/v1';
/** Chunks of one request: one job of a restore. */
export const MAX_ASKED_CHUNKS = 2_048;
/** Requests under way on one connection. */
export const MAX_ASKED_AT_ONCE = 8;
/** Largest text message, bytes: a request of {@link MAX_ASKED_CHUNKS}. */
const MAX_TEXT_BYTES = 256 * 1024;

const requestSchema = z.int().min(1).max(0xffff_ffff);
const wantedSchema = z.tuple([z.string().regex(/^[0-9a-f]{64}$/), z.int().min(1).max(MAX_FRAME_RAW_BYTES)]);

const toHolderSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('get'),
    request: requestSchema,
    /** Ids and raw lengths. */
    chunks: z.array(wantedSchema).min(1).max(MAX_ASKED_CHUNKS),
  }),
  /** The rest of the request is not wanted any more. */
  z.object({ kind: z.literal('cancel'), request: requestSchema }),
]);
export type ToHolder = z.infer<typeof toHolderSchema>;

const toReaderSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('done'), request: requestSchema }),
  z.object({ kind: z.literal('missed'), request: requestSchema }),
]);
export type ToReader = z.infer<typeof toReaderSchema>;

/** @throws {DumontError} PROTOCOL naming the field, LIMIT */
export function decodeToHolder(text: string): ToHolder {
  return decode(toHolderSchema, text);
}

/** @throws {DumontError} PROTOCOL naming the field, LIMIT */
export function decodeToReader(text: string): ToReader {
  return decode(toReaderSchema, text);
}

function decode<Message>(schema: z.ZodType<Message>, text: string): Message {
  if (text.length > MAX_TEXT_BYTES) throw new DumontError('LIMIT', 'a message about chunks is too long');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DumontError('PROTOCOL', 'a message about chunks is not JSON', { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { summary, field } = describeIssues(parsed.error);
  throw new DumontError('PROTOCOL', `a message about chunks is not valid: ${summary}`, { field });
}

/** What an assignment says of it while the workspace is moved. The token is of one workspace, standby and move. */
export const chunkAssignmentSchema = z.discriminatedUnion('role', [
  z.object({
    role: z.literal('serve'),
    host: z.string().min(1).max(255).default('0.0.0.0'),
    /** 0 lets the system choose. */
    port: countSchema.max(65_535),
    token: z.string().min(16).max(256),
  }),
  z.object({ role: z.literal('fetch'), url: z.url({ protocol: /^wss$/ }), token: z.string().min(16).max(256) }),
]);
