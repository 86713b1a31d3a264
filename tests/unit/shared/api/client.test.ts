import { once } from 'node:events';
import type { RequestListener } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createApiClient } from '@dumont/shared/api/client.ts';
import type { DumontError } from '@dumont/shared/util/errors.ts';
import { ManualClock } from '@dumont/tests/world/manual-clock.ts';
import { expect, test } from 'vitest';

/** A server that answers as the listener says, and its base URL. */
async function serve(listener: RequestListener): Promise<AsyncDisposable & { readonly url: string }> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

async function failureOf(work: Promise<unknown>): Promise<Partial<DumontError>> {
  try {
    await work;
  } catch (error) {
    const { code, message, hint, field, retryable } = error as DumontError;
    return {
      code,
      message,
      ...(hint === undefined ? {} : { hint }),
      ...(field === undefined ? {} : { field }),
      retryable,
    };
  }
  throw new Error('it did not fail');
}

test('a problem answer becomes its error, with hint and field', async () => {
  const problem = {
    type: 'x',
    title: 'Conflict',
    status: 409,
    detail: 'taken',
    code: 'CONFLICT',
    hint: 'wait',
    field: 'name',
  };
  await using server = await serve((_, response) => {
    response.writeHead(409, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
  });
  const failure = await failureOf(createApiClient({ baseUrl: server.url }).call('health'));
  expect(failure).toEqual({ code: 'CONFLICT', message: 'taken', hint: 'wait', field: 'name', retryable: false });
});

test.each([
  [503, 'try later', { code: 'UNAVAILABLE', retryable: true }],
  [404, '<html>not here</html>', { code: 'PROTOCOL', retryable: false }],
  [200, 'not json', { code: 'PROTOCOL', retryable: false }],
  [200, '{"ok":false}', { code: 'PROTOCOL', retryable: false }],
] as const)('status %d with the body %j is not an answer of this API', async (status, body, expected) => {
  await using server = await serve((_, response) => response.writeHead(status).end(body));
  const failure = await failureOf(createApiClient({ baseUrl: server.url }).call('health'));
  expect(failure).toMatchObject(expected);
  expect(failure.hint).toBeDefined();
});

test('a server that is not there is named, with a hint', async () => {
  const gone = await serve(() => {});
  await gone[Symbol.asyncDispose]();
  const failure = await failureOf(createApiClient({ baseUrl: gone.url }).call('health'));
  expect(failure).toEqual({
    code: 'UNAVAILABLE',
    message: `cannot reach the control plane at ${gone.url}: connection refused`,
    hint: `Is the control plane running at ${gone.url}?`,
    retryable: true,
  });
});

test('a server that does not answer in time is a timeout, a caller that gives up an abort', async () => {
  const clock = new ManualClock();
  const asked = Promise.withResolvers<void>();
  await using server = await serve(() => asked.resolve());
  const client = createApiClient({ baseUrl: server.url, clock });
  const late = failureOf(client.call('health', { timeoutMs: 5_000 }));
  await asked.promise;
  await clock.advance(5_000);
  expect(await late).toMatchObject({ code: 'TIMEOUT', retryable: true });
  const stop = new AbortController();
  const aborted = failureOf(client.call('health', { signal: stop.signal }));
  stop.abort();
  expect(await aborted).toMatchObject({ code: 'ABORTED' });
});

test('path, query and body are written as the endpoint wants them', async () => {
  const requests: string[] = [];
  await using server = await serve((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    response.writeHead(404).end();
  });
  const client = createApiClient({ baseUrl: `${server.url}/prefix/`, token: 't' });
  await failureOf(client.call('getWorkspace', { params: { workspace: 'a/b c' } }));
  await failureOf(client.call('listInstances', { query: { workspace: 'x&y', cursor: undefined, limit: 5 } }));
  expect(requests).toEqual([
    'GET /prefix/api/v1/workspaces/a%2Fb%20c Bearer t',
    'GET /prefix/api/v1/instances?workspace=x%26y&limit=5 Bearer t',
  ]);
  expect((await failureOf(client.call('getWorkspace', { params: { workspace: '' } }))).code).toBe('USAGE');
  expect(() => createApiClient({ baseUrl: 'localhost:8766' })).toThrow('not an http');
});

test('an event stream that goes silent is taken up again after the last id', async () => {
  const clock = new ManualClock();
  const resumedFrom: (string | undefined)[] = [];
  const connected = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await using server = await serve((request, response) => {
    resumedFrom.push(request.headers['last-event-id'] as string | undefined);
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write('id: 41\n\n');
    connected[resumedFrom.length - 1]?.resolve();
  });
  const stop = new AbortController();
  const states: string[] = [];
  const client = createApiClient({ baseUrl: server.url, clock, random: { next: () => 0 } });
  const up = Promise.withResolvers<void>();
  const reading = (async () => {
    const onState = (state: string) => {
      states.push(state);
      up.resolve();
    };
    for await (const _ of client.events({ onState, signal: stop.signal }));
  })();
  await connected[0]?.promise;
  await up.promise;
  const resumed = { isDone: false };
  void connected[1]?.promise.then(() => (resumed.isDone = true));
  while (!resumed.isDone) {
    await clock.advance(5_000);
    // A turn of the real event loop between steps lets the socket work.
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  stop.abort();
  await reading;
  expect(resumedFrom[0]).toBeUndefined();
  expect(resumedFrom[1]).toBe('41');
  expect(states.slice(0, 2)).toEqual(['connected', 'reconnecting']);
});

test('a refused first connection is told to the caller', async () => {
  await using server = await serve((_, response) => response.writeHead(401).end());
  const iterator = createApiClient({ baseUrl: server.url }).events()[Symbol.asyncIterator]();
  expect((await failureOf(iterator.next())).message).toContain('401');
});
