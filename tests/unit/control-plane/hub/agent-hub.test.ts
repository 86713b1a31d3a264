import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { newId } from '@dumont/shared/model/ids.ts';
import { CLOSE_CODES, MAX_MESSAGE_BYTES, PROTOCOL_VERSION } from '@dumont/shared/protocol/version.ts';
import { expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { ManualClock } from '../../../world/manual-clock.ts';
import { heartbeat } from '../detect/monitor-world.ts';
import { admittingDirectory, assignmentAt, helloOf, hubWorld, TestAgent } from './hub-world.ts';

const instance = newId('instance');

test('a hello with the right token is welcomed with its assignment', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.connect(world.url);
  agent.send(helloOf(instance));
  expect(await agent.next('welcome')).toMatchObject({ assignment: assignmentAt(1) });
  expect(world.hub.isConnected(instance)).toBe(true);
  expect(world.hub.connectedCount).toBe(1);
  expect(world.facts).toEqual(['connected']);
});

test('a wrong credential is refused with a hint and closed as unauthorized', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.connect(world.url);
  agent.send(helloOf(instance, { credential: 'w'.repeat(43) }));
  expect(await agent.next('refused')).toMatchObject({ code: 'UNAUTHORIZED', hint: 'Enrol the machine again.' });
  expect(await agent.closed()).toBe(CLOSE_CODES.unauthorized);
  expect(world.facts).toEqual([]);
});

test.each([
  ['text that is not JSON', 'hello?', 'PROTOCOL', undefined],
  ['an unknown kind', { kind: 'greetings' }, 'PROTOCOL', 'kind'],
  ['a field of the wrong type', helloOf(instance, { cpuCount: 'many' as never }), 'PROTOCOL', 'cpuCount'],
  ['a message before the hello', heartbeat(1), 'PROTOCOL', 'kind'],
])('%s is refused naming the field, and the socket closed', async (_name, message, code, field) => {
  await using world = await hubWorld();
  const agent = await TestAgent.connect(world.url);
  agent.send(message);
  const refused = await agent.next('refused');
  expect(refused.code).toBe(code);
  expect(refused.field).toBe(field);
  expect(await agent.closed()).toBe(CLOSE_CODES.protocol);
});

test('a malformed message of a live agent ends its session, and the listener hears of a clean end', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  agent.send({ ...heartbeat(1), mainLagMs: -1 });
  expect(await agent.next('refused')).toMatchObject({ code: 'PROTOCOL', field: 'mainLagMs' });
  expect(await agent.closed()).toBe(CLOSE_CODES.protocol);
  expect(world.facts).toEqual(['connected', `disconnected cleanly ${CLOSE_CODES.protocol}`]);
});

test('a second hello on the same socket is refused', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  agent.send(helloOf(instance));
  expect(await agent.next('refused')).toMatchObject({ message: 'hello was said already' });
});

test('binary frames are refused', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.connect(world.url);
  agent.socket.send(Buffer.from(JSON.stringify(helloOf(instance))));
  expect((await agent.next('refused')).message).toContain('binary');
  expect(await agent.closed()).toBe(CLOSE_CODES.protocol);
});

test('a message above the limit is refused as too large, one far above it is cut off', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.connect(world.url);
  agent.send('x'.repeat(MAX_MESSAGE_BYTES + 1));
  expect(await agent.next('refused')).toMatchObject({ code: 'LIMIT' });
  expect(await agent.closed()).toBe(CLOSE_CODES.tooLarge);
  const flooding = await TestAgent.greeted(world.url, instance);
  flooding.send('x'.repeat(3 * MAX_MESSAGE_BYTES));
  expect(await flooding.closed()).toBe(1009);
  await world.fact(`disconnected cleanly ${CLOSE_CODES.protocol}`);
});

test('a protocol version from the future is refused with what to do', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.connect(world.url);
  agent.send(helloOf(instance, { protocolVersion: PROTOCOL_VERSION + 1 }));
  expect(await agent.next('refused')).toMatchObject({
    code: 'UNSUPPORTED',
    field: 'protocolVersion',
    hint: 'Upgrade the control plane first.',
  });
});

test('an agent that says no hello in time is closed', async () => {
  const clock = new ManualClock();
  await using world = await hubWorld({ clock });
  const agent = await TestAgent.connect(world.url);
  await clock.advance(4_999);
  expect(agent.closeCode).toBeNull();
  await clock.advance(1);
  expect(await agent.next('refused')).toMatchObject({ code: 'TIMEOUT' });
  expect(await agent.closed()).toBe(CLOSE_CODES.helloTimeout);
});

test('a directory that hangs or fails sends the agent away to come back', async () => {
  await using hanging = await hubWorld({
    directory: admittingDirectory({ admit: () => new Promise(() => {}) }),
    limits: { greetingTimeoutMs: 50, closeTimeoutMs: 50 },
  });
  const first = await TestAgent.connect(hanging.url);
  first.send(helloOf(instance));
  expect(await first.next('refused')).toMatchObject({ code: 'UNAVAILABLE' });
  expect(await first.closed()).toBe(CLOSE_CODES.goingAway);
  await using failing = await hubWorld({
    directory: admittingDirectory({ admit: () => Promise.reject(new Error('no database')) }),
  });
  const second = await TestAgent.connect(failing.url);
  second.send(helloOf(instance));
  expect(await second.next('refused')).toMatchObject({ code: 'UNAVAILABLE' });
  expect(await second.closed()).toBe(CLOSE_CODES.goingAway);
});

test('a newer session of the same instance supersedes the older without the instance ever being away', async () => {
  await using world = await hubWorld();
  const older = await TestAgent.greeted(world.url, instance);
  const newer = await TestAgent.greeted(world.url, instance);
  expect(await older.closed()).toBe(CLOSE_CODES.superseded);
  expect(world.facts).toEqual(['connected', 'connected']);
  newer.send(heartbeat(1, 7));
  await world.fact('heartbeat 7');
  expect(world.hub.connectedCount).toBe(1);
});

test('an older session admitted late does not displace the newer one', async () => {
  const admissions: (() => void)[] = [];
  const admitting = admittingDirectory();
  await using world = await hubWorld({
    directory: {
      ...admitting,
      async admit(hello) {
        if (admissions.length === 0) await new Promise<void>((resolve) => admissions.push(resolve));
        return admitting.admit(hello);
      },
    },
  });
  const older = await TestAgent.connect(world.url);
  older.send(helloOf(instance));
  const newer = await TestAgent.connect(world.url);
  await expect.poll(() => admissions.length).toBe(1);
  newer.send(helloOf(instance));
  await newer.next('welcome');
  admissions[0]?.();
  expect(await older.closed()).toBe(CLOSE_CODES.superseded);
  expect(newer.closeCode).toBeNull();
});

test('an assignment that changes while the agent is being admitted is the one it is welcomed with', async () => {
  let admit = () => {};
  const admitting = admittingDirectory();
  await using world = await hubWorld({
    directory: {
      ...admitting,
      async admit(hello) {
        await new Promise<void>((resolve) => {
          admit = resolve;
        });
        return admitting.admit(hello);
      },
    },
  });
  const initial = admit;
  const agent = await TestAgent.connect(world.url);
  agent.send(helloOf(instance));
  await expect.poll(() => admit !== initial).toBe(true);
  world.hub.assign(instance, assignmentAt(5));
  admit();
  expect((await agent.next('welcome')).assignment.epoch).toBe(5);
});

test('messages sent right behind the hello are served after the welcome, in order', async () => {
  await using world = await hubWorld();
  const eager = await TestAgent.connect(world.url);
  eager.socket.send(JSON.stringify(helloOf(instance)));
  for (let seq = 1; seq <= 5; seq += 1) eager.send(heartbeat(seq, seq));
  await world.fact('heartbeat 5');
  expect(world.facts).toEqual(['connected', ...[1, 2, 3, 4, 5].map((seq) => `heartbeat ${seq}`)]);
});

test('an agent that talks on and on before its welcome is refused', async () => {
  await using world = await hubWorld({
    directory: admittingDirectory({ admit: () => new Promise(() => {}) }),
    limits: { closeTimeoutMs: 50 },
  });
  const agent = await TestAgent.connect(world.url);
  // One packet, so that all of it is read before the hub can stop reading.
  stream(agent).cork();
  agent.send(helloOf(instance));
  for (let seq = 1; seq <= 40; seq += 1) agent.send(heartbeat(seq, seq));
  stream(agent).uncork();
  expect(await agent.next('refused')).toMatchObject({ code: 'PROTOCOL' });
  expect(await agent.closed()).toBe(CLOSE_CODES.protocol);
});

test('beats go to the listener and are acknowledged about once a second with the newest epoch', async () => {
  const clock = new ManualClock();
  await using world = await hubWorld({ clock });
  const agent = await TestAgent.greeted(world.url, instance);
  for (let seq = 1; seq <= 11; seq += 1) {
    agent.send(heartbeat(seq, seq));
    await world.fact(`heartbeat ${seq}`);
    await clock.advance(200);
    if (seq === 5) world.hub.assign(instance, assignmentAt(2));
  }
  expect(await agent.next('assign')).toMatchObject({ assignment: { epoch: 2 } });
  const acks = [
    await agent.next('heartbeat-ack'),
    await agent.next('heartbeat-ack'),
    await agent.next('heartbeat-ack'),
  ];
  expect(acks.map(({ seq, epoch }) => [seq, epoch])).toEqual([
    [1, 1],
    [6, 2],
    [11, 2],
  ]);
});

test('an unchanged assignment is not sent again', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  world.hub.assign(instance, assignmentAt(1));
  world.hub.assign(instance, assignmentAt(2));
  world.hub.assign(instance, assignmentAt(2));
  world.hub.assign(instance, assignmentAt(3));
  expect((await agent.next('assign')).assignment.epoch).toBe(2);
  expect((await agent.next('assign')).assignment.epoch).toBe(3);
});

test('an abrupt end and a goodbye are told apart', async () => {
  await using world = await hubWorld();
  const polite = await TestAgent.greeted(world.url, instance);
  polite.socket.close(CLOSE_CODES.goingAway);
  await world.fact(`disconnected cleanly ${CLOSE_CODES.goingAway}`);
  const dying = await TestAgent.greeted(world.url, instance);
  dying.socket.terminate();
  await world.fact('disconnected abruptly 1006');
  expect(world.hub.isConnected(instance)).toBe(false);
});

test('a snapshot commit is answered with the verdict of the directory', async () => {
  await using world = await hubWorld({
    directory: admittingDirectory({
      commitSnapshot: (_id, { epoch }) => Promise.resolve({ kind: 'stale-epoch', epoch: epoch + 1 }),
    }),
  });
  const agent = await TestAgent.greeted(world.url, instance);
  agent.send(snapshotCommit('r1'));
  expect(await agent.next('snapshot-verdict')).toMatchObject({
    requestId: 'r1',
    verdict: { kind: 'stale-epoch', epoch: 2 },
  });
});

test('a commit the directory cannot book closes the session without an answer, so that the agent asks again', async () => {
  await using world = await hubWorld({
    directory: admittingDirectory({ commitSnapshot: () => Promise.reject(new Error('no database')) }),
  });
  const agent = await TestAgent.greeted(world.url, instance);
  agent.send(snapshotCommit('r1'));
  expect(await agent.closed()).toBe(CLOSE_CODES.goingAway);
  expect(agent.received).toEqual([]);
});

test('waitConnected resolves with the welcome, and rejects when given up', async () => {
  await using world = await hubWorld();
  const waiting = world.hub.waitConnected(instance, { signal: AbortSignal.timeout(10_000) });
  await TestAgent.greeted(world.url, instance);
  await waiting;
  await world.hub.waitConnected(instance, { signal: new AbortController().signal });
  const nobody = new AbortController();
  const never = world.hub.waitConnected(newId('instance'), { signal: nobody.signal });
  nobody.abort();
  await expect(never).rejects.toMatchObject({ code: 'ABORTED' });
});

test('upgrades of other paths are left to other handlers', async () => {
  await using world = await hubWorld();
  const other = new WebSocketServer({ noServer: true });
  world.server.onUpgrade((request, socket, head) => {
    if (request.url !== '/other') return false;
    other.handleUpgrade(request, socket, head, (client) => client.close(4999));
    return true;
  });
  const socket = new WebSocket(world.url.replace('/agent/v1', '/other'));
  const [code] = (await once(socket, 'close')) as [number];
  expect(code).toBe(4999);

  const nobodys = new WebSocket(world.url.replace('/agent/v1', '/nobodys'));
  const [error] = (await once(nobodys, 'error')) as [Error];
  expect(error.message).toContain('404');
});

test('connections beyond the cap of ungreeted ones are turned away until the others are greeted', async () => {
  await using world = await hubWorld({ limits: { maxUngreeted: 2 } });
  const first = await TestAgent.connect(world.url);
  await TestAgent.connect(world.url);
  const turnedAway = new WebSocket(world.url);
  const [error] = (await once(turnedAway, 'error')) as [Error];
  expect(error.message).toContain('503');
  first.send(helloOf(instance));
  await first.next('welcome');
  await TestAgent.connect(world.url);
});

test('an agent that does not read is dropped when its buffer is full', async () => {
  await using world = await hubWorld({ limits: { maxBufferedBytes: 65_536 } });
  const agent = await TestAgent.greeted(world.url, instance);
  agent.socket.pause();
  const long = { command: 'x'.repeat(8_000), restart: true };
  for (let epoch = 2; epoch < 5_000 && world.hub.isConnected(instance); epoch += 1) {
    world.hub.assign(instance, { ...assignmentAt(epoch), workload: long });
    if (epoch % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(world.facts).toEqual(['connected', 'disconnected cleanly 1006']);
});

test('disposing says goodbye to every agent, even to one that does not answer', async () => {
  const world = await hubWorld({ limits: { closeTimeoutMs: 50 } });
  const agent = await TestAgent.greeted(world.url, instance);
  const deaf = await TestAgent.greeted(world.url, newId('instance'));
  deaf.socket.pause();
  await world[Symbol.asyncDispose]();
  expect(await agent.closed()).toBe(CLOSE_CODES.goingAway);
  deaf.socket.terminate();
});

test('bytes that are no WebSocket at all do no harm', async () => {
  await using world = await hubWorld();
  const { port, hostname } = new URL(world.url);
  const raw = connect({ host: hostname, port: Number(port) });
  raw.write('GET /agent/v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  const [answer] = (await once(raw, 'data')) as [Buffer];
  expect(answer.toString('utf8')).toContain('400');
  raw.destroy();
  await TestAgent.greeted(world.url, instance);
});

test('two hundred agents at twenty beats a second are all heard in order', async () => {
  const seen = new Map<string, number>();
  let count = 0;
  await using world = await hubWorld({
    listener: {
      connected: () => {},
      disconnected: () => {},
      sample: () => {},
      notice: () => {},
      heartbeat: (id, beat) => {
        expect(beat.seq).toBe((seen.get(id) ?? 0) + 1);
        seen.set(id, beat.seq);
        count += 1;
      },
    },
  });
  const ids = Array.from({ length: 200 }, () => newId('instance'));
  const agents = await Promise.all(ids.map((id) => TestAgent.greeted(world.url, id)));
  expect(world.hub.connectedCount).toBe(200);
  const startedMs = performance.now();
  for (let seq = 1; seq <= 20; seq += 1) {
    for (const agent of agents) agent.send(heartbeat(seq * 50, seq));
    const dueMs = startedMs + seq * 50;
    while (performance.now() < dueMs) await new Promise((resolve) => setImmediate(resolve));
  }
  await expect.poll(() => count, { timeout: 10_000 }).toBe(4_000);
});

/** The TCP stream beneath an agent's WebSocket. */
function stream(agent: TestAgent): Socket {
  return (agent.socket as unknown as { readonly _socket: Socket })._socket;
}

function snapshotCommit(requestId: string) {
  const snapshot = {
    snapshotId: newId('snapshot'),
    manifestKey: 'manifests/one',
    manifestHash: '0'.repeat(64),
    parentId: null,
    startedAtMs: 1,
    createMs: 1,
    fileCount: 1,
    totalBytes: 1,
    newBytes: 1,
    storedBytes: 1,
    tornPaths: [],
  };
  return { kind: 'snapshot-commit', requestId, epoch: 1, snapshot };
}
