import { createHmac } from 'node:crypto';
import { verifyVastWebhook } from '@dumont/control-plane/providers/vast/vast-webhook.ts';
import { expect, test } from 'vitest';

const SECRET = 'the-secret-of-the-webhook';
const NOW_MS = 1_795_300_000_000;
const BODY =
  '{"event_id":77,"user_id":1,"notif_type":"outbid","subject":"Outbid","message":"C.31600001","timestamp":1.5}';

function delivery(changes: { readonly rawBody?: string; readonly timestamp?: string; readonly secret?: string } = {}) {
  const { rawBody = BODY, timestamp = String(NOW_MS / 1_000), secret = SECRET } = changes;
  const mac = createHmac('sha256', secret).update(`${timestamp}.${rawBody}`).digest('hex');
  return { rawBody, headers: { 'x-vast-timestamp': timestamp, 'x-vast-signature-256': `sha256=${mac}` } };
}

test('a signed delivery is its event', () => {
  expect(verifyVastWebhook(delivery(), SECRET, NOW_MS)).toEqual({
    eventId: '77',
    type: 'outbid',
    text: 'Outbid: C.31600001',
  });
});

test.each([
  ['signed with another secret', delivery({ secret: 'guessed' })],
  ['changed on its way', { ...delivery(), rawBody: BODY.replace('outbid', 'resumed') }],
  ['played again an hour later', delivery({ timestamp: String(NOW_MS / 1_000 - 3_600) })],
  ['without a signature', { rawBody: BODY, headers: {} }],
  ['signed, but no event', delivery({ rawBody: '[]' })],
])('a delivery %s is none', (_what, given) => {
  expect(verifyVastWebhook(given, SECRET, NOW_MS)).toBeUndefined();
});
