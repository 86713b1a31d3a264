import { createHmac, timingSafeEqual } from 'node:crypto';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';

/** Older deliveries are refused: whoever recorded one could play it again. Retries are signed anew. */
const MAX_AGE_MS = 300_000;

const eventSchema = z.object({
  event_id: z.union([z.string(), z.number()]).transform(String),
  /** `outbid`, `offline`, …: the event's slug without its prefix. */
  notif_type: z.string(),
  subject: z.string().nullish(),
  message: z.string().nullish(),
});

/** One notification. It names no instance but in its text: whoever gets one looks at the machines. */
export interface VastEvent {
  /** The same for every delivery of one event. */
  readonly eventId: string;
  readonly type: string;
  readonly text: string;
}

export interface WebhookDelivery {
  /** Header names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** As it came: the signature covers its very bytes. */
  readonly rawBody: string;
}

/**
 * The event of a delivery that Vast signed with `secret` within the last five minutes; undefined for any other. Pure.
 * `X-Vast-Signature-256: sha256=<hex HMAC-SHA256(secret, "<X-Vast-Timestamp>.<raw body>")>`
 */
export function verifyVastWebhook(delivery: WebhookDelivery, secret: string, nowMs: number): VastEvent | undefined {
  const timestamp = delivery.headers['x-vast-timestamp'] ?? '';
  if (!/^\d+$/.test(timestamp) || Math.abs(nowMs - Number(timestamp) * 1_000) > MAX_AGE_MS) return undefined;
  const given = Buffer.from(delivery.headers['x-vast-signature-256'] ?? '');
  const due = Buffer.from(signVastWebhook(delivery.rawBody, timestamp, secret));
  if (given.length !== due.length || !timingSafeEqual(given, due)) return undefined;
  const parsed = eventSchema.safeParse(tryParseJson(delivery.rawBody));
  if (!parsed.success) return undefined;
  const { event_id: eventId, notif_type: type, subject, message } = parsed.data;
  return { eventId, type, text: [subject, message].filter((part) => part).join(': ') };
}

/** The signature header of a body. Pure. */
function signVastWebhook(rawBody: string, timestamp: string, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(`${timestamp}.${rawBody}`).digest('hex')}`;
}
