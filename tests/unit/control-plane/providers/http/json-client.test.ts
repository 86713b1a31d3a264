import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { JsonClient, type JsonRequest } from '@dumont/control-plane/providers/http/json-client.ts';
import { retryAfterMs } from '@dumont/control-plane/providers/http/retry-after.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { fastClock } from '../../../../world/fast-clock.ts';

const { signal } = new AbortController();
const KEY = 'the-key-of-the-account';

type Behaviour = (request: IncomingMessage, response: ServerResponse, call: number) => void;

async function serve(behaviour: Behaviour) {
  let calls = 0;
  const server = createServer((request, response) => {
    calls += 1;
    behaviour(request, response, calls);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new JsonClient({
    name: 'Acme',
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    headers: { authorization: `Bearer ${KEY}` },
    secrets: [KEY],
    limits: { any: { calls: 100, perMs: 1_000 } },
    throttledMs: (text) => (text === 'in three' ? 3_000 : undefined),
    clock: fastClock(20),
    random: seededRandom(1),
  });
  return {
    client,
    get calls() {
      return calls;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const call = (more: Partial<JsonRequest<'any'>> = {}): JsonRequest<'any'> => ({
  endpoint: 'any',
  method: 'GET',
  path: '/things/1',
  doing: 'looking at thing 1',
  repeatable: true,
  ...more,
});

test('an answer is given back with its status and body, also a refusal', async () => {
  await using server = await serve((_request, response) => response.writeHead(404).end('{"error":"none"}'));
  expect(await server.client.send(call(), { signal })).toEqual({
    status: 404,
    body: { error: 'none' },
    quoted: '{"error":"none"}',
  });
});

test('a body that is no JSON is undefined and quoted', async () => {
  await using server = await serve((_request, response) => response.end('<html>maintenance</html>'));
  expect(await server.client.send(call(), { signal })).toEqual({
    status: 200,
    body: undefined,
    quoted: '<html>maintenance</html>',
  });
});

test('a throttled call is made again later, also one that may not be repeated: it was not carried out', async () => {
  await using server = await serve((_request, response, number) => {
    if (number < 3) response.writeHead(429).end('in three');
    else response.end('{"done":true}');
  });
  const answer = await server.client.send(call({ method: 'PUT', body: {}, repeatable: false }), { signal });
  expect(answer.body).toEqual({ done: true });
  expect(server.calls).toBe(3);
});

test('a call that is throttled for ever fails as such, and may be tried later', async () => {
  await using server = await serve((_request, response) => response.writeHead(429).end());
  const failure = server.client.send(call(), { signal });
  await expect(failure).rejects.toMatchObject({ code: 'LIMIT', retryable: true });
  expect(server.calls).toBe(5);
});

test('a repeatable call is repeated when the answer was lost, another is not', async () => {
  await using server = await serve((request, response, number) => {
    if (number === 1) request.socket.destroy();
    else response.end('{}');
  });
  expect((await server.client.send(call(), { signal })).status).toBe(200);
  await using other = await serve((request) => request.socket.destroy());
  const order = call({ method: 'PUT', body: { a: 1 }, repeatable: false });
  await expect(other.client.send(order, { signal })).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
  expect(other.calls).toBe(1);
});

test('no message holds the key, not even one that the provider repeats', async () => {
  await using server = await serve((request, response) => {
    response.writeHead(503).end(`no service for ${request.headers.authorization}`);
  });
  const failure = (await server.client
    .send(call({ repeatable: false }), { signal })
    .catch((error: unknown) => error)) as Error;
  expect(failure.message).toContain('looking at thing 1 at Acme: 503 no service for Bearer [secret]');
  expect(inspect(failure)).not.toContain(KEY);
});

test('a redirect is not followed: the key would go along', async () => {
  await using server = await serve((_request, response) =>
    response.writeHead(302, { location: 'http://127.0.0.1:1/elsewhere' }).end(),
  );
  await expect(server.client.send(call({ repeatable: false }), { signal })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
});

test('an aborted call rejects with the reason and is not repeated', async () => {
  const stop = new AbortController();
  await using server = await serve(() => stop.abort(new Error('enough')));
  await expect(server.client.send(call(), { signal: stop.signal })).rejects.toThrow('enough');
  expect(server.calls).toBe(1);
});

test('Retry-After is understood in seconds and as a date', () => {
  const nowMs = Date.UTC(2026, 0, 1);
  expect(retryAfterMs('4.5', nowMs)).toBe(4_500);
  expect(retryAfterMs('Thu, 01 Jan 2026 00:00:07 GMT', nowMs)).toBe(7_000);
  expect(retryAfterMs('soon', nowMs)).toBeUndefined();
  expect(retryAfterMs(null, systemClock.nowMs())).toBeUndefined();
});
