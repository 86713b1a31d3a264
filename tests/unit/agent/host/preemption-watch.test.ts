import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { PreemptionWatch } from '@dumont/agent/host/preemption-watch.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { GcpMetadataSimulator } from '../../../simulators/gcp-metadata.ts';
import { eventually } from '../../../world/eventually.ts';

function watchOf(metadataHost: string) {
  const calls: string[] = [];
  const watch = new PreemptionWatch({
    metadataHost,
    clock: systemClock,
    random: seededRandom(1),
    log: createLogger('test', 'silent'),
    onPreempted: () => calls.push('preempted'),
  });
  watch.start();
  return { calls, [Symbol.asyncDispose]: () => watch[Symbol.asyncDispose]() };
}

test('a preemption is heard the moment it is announced, once', async () => {
  await using server = await GcpMetadataSimulator.start();
  await using watch = watchOf(server.host);
  await eventually('it waits', () => server.heldCount === 1);
  expect(server.queries.at(-1)).toContain('wait_for_change=true');
  expect(server.queries.at(-1)).toContain('last_etag=411261ca6c9e4a3d');
  expect(watch.calls).toEqual([]);
  const asked = server.queries.length;
  server.preempt();
  await eventually('it was heard', () => watch.calls.length > 0);
  expect(watch.calls).toEqual(['preempted']);
  expect(server.queries).toHaveLength(asked);
});

test('a server that breaks off, or fails for a while, is asked again', async () => {
  await using server = await GcpMetadataSimulator.start();
  await using watch = watchOf(server.host);
  await eventually('it waits', () => server.heldCount === 1);
  server.isBroken = true;
  server.drop();
  const asked = server.queries.length;
  await eventually('it asks in vain', () => server.queries.length > asked + 1);
  server.isBroken = false;
  await eventually('it waits again', () => server.heldCount === 1);
  server.preempt();
  await eventually('it was heard', () => watch.calls.length > 0);
});

test('a machine that is taken back before the agent begins is told of at once', async () => {
  await using server = await GcpMetadataSimulator.start();
  server.preempt();
  await using watch = watchOf(server.host);
  await eventually('it was heard', () => watch.calls.length > 0);
});

test('a server that is not Google is left alone after one question', async () => {
  let asked = 0;
  const server = createServer((_request, response) => {
    asked += 1;
    response.end('TRUE');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  {
    await using watch = watchOf(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    await eventually('it asked', () => asked > 0);
    await systemClock.sleep(50);
    expect(watch.calls).toEqual([]);
  }
  expect(asked).toBe(1);
  server.close();
});

test('it ends at once while it waits for an answer', async () => {
  await using server = await GcpMetadataSimulator.start();
  await using _watch = watchOf(server.host);
  await eventually('it waits', () => server.heldCount === 1);
});
