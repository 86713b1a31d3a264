import type { z } from 'zod';
import { DumontError } from '../util/errors.ts';
import { describeIssues } from '../util/zod-issues.ts';
import { MAX_MESSAGE_BYTES } from './version.ts';

/**
 * One WebSocket text message to a validated value. Unknown fields are dropped, unknown kinds refused.
 * @throws {DumontError} LIMIT above MAX_MESSAGE_BYTES, PROTOCOL for text that is not JSON or not of the schema; the
 * message names the field.
 */
export function decodeFrame<Message>(schema: z.ZodType<Message>, text: string): Message {
  if (text.length > MAX_MESSAGE_BYTES) {
    throw new DumontError('LIMIT', `message of ${text.length} bytes is above the limit of ${MAX_MESSAGE_BYTES}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new DumontError('PROTOCOL', 'message is not JSON', { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { summary, field } = describeIssues(parsed.error);
  throw new DumontError('PROTOCOL', `message is not valid: ${summary}`, { field });
}

/** @throws {DumontError} LIMIT when the encoded message is above MAX_MESSAGE_BYTES. */
export function encodeFrame(message: { readonly kind: string }): string {
  const text = JSON.stringify(message);
  if (text.length > MAX_MESSAGE_BYTES) {
    throw new DumontError('LIMIT', `${message.kind} message of ${text.length} bytes is above ${MAX_MESSAGE_BYTES}`);
  }
  return text;
}
