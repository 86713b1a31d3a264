import { once } from 'node:events';
import { connect } from 'node:net';
import { appendEvent } from '@dumont/control-plane/store/events.ts';
import { STALL_MS } from '@dumont/control-plane/http/events-route.ts';
import { createApiClient } from '@dumont/shared/api/client.ts';
import { API_PREFIX } from '@dumont/shared/api/endpoint.ts';
import { readServerSentEvents } from '@dumont/shared/api/server-sent-events.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { ManualClock } from '@dumont/tests/world/manual-clock.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ApiWorld } from './api-world.ts';
import { startApiWorld } from './api-world.ts';
import type { SampleData } from './sample-data.ts';
import { fillSampleData } from './sample-data.ts';

let world: ApiWorld;
let data: SampleData;

beforeAll(async () => {
  world = await startApiWorld();
  data = await fillSampleData(world.db, systemClock.nowMs());
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

async function append(of: ApiWorld, fields: { readonly text?: string } = {}): Promise<number> {
  const event = await appendEvent(of.db, { type: 'operation.step', atMs: 1, data: fields });
  of.feed.wake();
  return event.eventId;
}

function openStream(query: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${world.url}${API_PREFIX}/events${query}`, {
    headers: { authorization: `Bearer ${world.token}`, ...headers },
  });
}

/** Lets sockets and queries make progress. */
function loopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** The first `count` messages of a stream. */
async function firstMessages(response: Response, count: number) {
  const messages = [];
  if (response.body === null) throw new Error('no body');
  for await (const message of readServerSentEvents(response.body)) {
    messages.push(message);
    if (messages.length === count) break;
  }
  return messages;
}

test('a stream needs the token and refuses what it does not know', async () => {
  expect((await fetch(`${world.url}${API_PREFIX}/events`)).status).toBe(401);
  expect((await openStream('?after=-1')).status).toBe(400);
  expect((await openStream('?colour=red')).status).toBe(400);
  expect((await openStream('?workspace=nobody')).status).toBe(404);
  const headers = { authorization: `Bearer ${world.token}` };
  const head = await fetch(`${world.url}${API_PREFIX}/events`, { method: 'HEAD', headers });
  expect(head.status).toBe(200);
});

test('a stream begins with the id to resume from, then each event with id, type and data', async () => {
  const response = await openStream('?after=2&workspace=demo');
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  const [start, first] = await firstMessages(response, 2);
  expect(start).toEqual({ id: '2', event: 'message', data: '' });
  expect(first).toMatchObject({ id: '3', event: 'snapshot.committed' });
  expect(JSON.parse(first?.data ?? '')).toMatchObject({ eventId: 3, workspaceId: data.workspaceId });
});

test('Last-Event-ID wins over ?after, and without either only what is new is told', async () => {
  const resumed = await firstMessages(await openStream('?after=0', { 'last-event-id': '4' }), 2);
  expect(resumed[1]?.id).toBe('5');
  const response = await openStream('');
  const fresh = await append(world);
  const messages = await firstMessages(response, 2);
  expect(messages[1]?.id).toBe(String(fresh));
});

test('a client that is cut off again and again sees every event once while writers go on', async () => {
  const total = 150;
  const after = await append(world);
  let cuts = 0;
  // A network that breaks each connection after a few kilobytes, in the middle of an event.
  const flaky: typeof globalThis.fetch = async (input, init) => {
    const response = await globalThis.fetch(input, init);
    let budget = 1_500 + 700 * (cuts % 3);
    const cut = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        controller.enqueue(chunk.subarray(0, budget));
        budget -= chunk.length;
        if (budget > 0) return;
        cuts += 1;
        controller.error(new TypeError('terminated'));
      },
    });
    return new Response(response.body?.pipeThrough(cut) ?? null, response);
  };
  const random = { next: () => 0 };
  const client = createApiClient({ baseUrl: world.url, token: world.token, fetch: flaky, random });
  const seen: number[] = [];
  const reading = (async () => {
    for await (const event of client.events({ after })) {
      seen.push(event.eventId);
      if (seen.length === total) break;
    }
  })();
  const writers = Array.from({ length: 3 }, async () => {
    const ids: number[] = [];
    for (let index = 0; index < total / 3; index += 1) ids.push(await append(world));
    return ids;
  });
  const written = (await Promise.all(writers)).flat().toSorted((a, b) => a - b);
  await reading;
  expect(seen).toEqual(written);
  expect(cuts).toBeGreaterThan(3);
});

test('an idle stream is kept alive by comments', async () => {
  const clock = new ManualClock();
  await using quiet = await startApiWorld({ clock });
  const response = await fetch(`${quiet.url}${API_PREFIX}/events`, {
    headers: { authorization: `Bearer ${quiet.token}` },
  });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  expect((await reader?.read())?.value).toBe('retry: 1000\nid: 0\n\n');
  await clock.advance(15_000);
  expect((await reader?.read())?.value).toBe(': keep-alive\n\n');
  await reader?.cancel();
});

test('a client that does not read is dropped after a while, others go on', async () => {
  const clock = new ManualClock();
  await using busy = await startApiWorld({ clock });
  const stuck = connect(Number(new URL(busy.url).port), '127.0.0.1');
  await once(stuck, 'connect');
  stuck.pause();
  stuck.write(`GET ${API_PREFIX}/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${busy.token}\r\n\r\n`);
  const stop = new AbortController();
  const received: number[] = [];
  const reading = (async () => {
    for await (const event of busy.client.events({ after: 0, signal: stop.signal })) received.push(event.eventId);
  })();
  // More than the kernel's socket buffers and the server's bound together.
  const events = 200;
  for (let index = 0; index < events; index += 1) await append(busy, { text: 'x'.repeat(100_000) });
  while (received.length < events) await loopTurn();
  await clock.advance(STALL_MS);
  stuck.resume();
  while (!stuck.closed) await loopTurn();
  expect(stuck.bytesRead).toBeLessThan(events * 100_000);
  expect(received).toHaveLength(events);
  stop.abort();
  await reading;
});
