import { BeatBoard } from '@dumont/agent/link/beat-board.ts';
import { ControlLink, type LinkListener } from '@dumont/agent/link/control-link.ts';
import type { LinkTrouble } from '@dumont/agent/link/thread-messages.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Command } from '@dumont/shared/protocol/command.ts';
import type { Assignment, Hello } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { AgentSocketServer, testAssignment } from '../../../world/agent-socket-server.ts';
import { eventually } from '../../../world/eventually.ts';

class Recorder implements LinkListener {
  readonly states: string[] = [];
  readonly assignments: Assignment[] = [];
  readonly commands: Command[] = [];
  readonly epochs: number[] = [];
  readonly troubles: LinkTrouble[] = [];
  acceptedCount = 0;
  state(state: string): void {
    this.states.push(state);
  }
  assignment(assignment: Assignment): void {
    this.assignments.push(assignment);
  }
  command(command: Command): void {
    this.commands.push(command);
  }
  credentialAccepted(): void {
    this.acceptedCount += 1;
  }
  epoch(epoch: number): void {
    this.epochs.push(epoch);
  }
  trouble(trouble: LinkTrouble): void {
    this.troubles.push(trouble);
  }
}

function hello(): Hello {
  return {
    kind: 'hello',
    protocolVersion: 2,
    agentVersion: '0.0.0',
    role: 'gpu',
    lastEpoch: 0,
    instanceId: newId('instance'),
    credential: 'c'.repeat(43),
    bootId: 'boot-0001',
    hostname: 'here',
    cpuCount: 1,
    memoryBytes: 1,
  };
}

function connect(server: AgentSocketServer) {
  const listener = new Recorder();
  const board = new BeatBoard();
  const link = new ControlLink({ url: server.socketUrl, hello: hello(), board, clock: systemClock, listener });
  return { link, listener, board };
}

function record(): SnapshotRecord {
  return {
    snapshotId: newId('snapshot'),
    manifestKey: 'manifests/x',
    manifestHash: 'a'.repeat(64),
    parentId: null,
    startedAtMs: 1,
    createMs: 1,
    fileCount: 1,
    totalBytes: 1,
    newBytes: 1,
    storedBytes: 1,
    tornPaths: [],
  };
}

test('the link greets first, then beats at the interval of the policy with the fields of the board', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere', { epoch: 7 }));
  const { link, listener, board } = connect(server);
  await using _ = link;
  board.write({ epoch: 7, gpuUtilPct: 12.5, unsavedMs: 0, workload: 'running' });
  await server.waitFor('heartbeat', 20);
  expect(server.arrivals[0]?.message.kind).toBe('hello');
  const beats = server.of('heartbeat');
  expect(beats.map((beat) => beat.seq)).toEqual(beats.map((_beat, index) => index));
  expect(beats.at(-1)).toMatchObject({ epoch: 7, gpuUtilPct: 12.5, unsavedMs: 0, workload: 'running' });
  expect(listener.assignments.map((assignment) => assignment.epoch)).toEqual([7]);
  expect(listener.states).toEqual(['connecting', 'greeting', 'online']);
});

test('a new interval in an assign changes the rhythm at once', async () => {
  const slow = { heartbeatIntervalMs: 60_000, snapshotIntervalMs: 1_000 };
  await using server = await AgentSocketServer.start(testAssignment('/nowhere', { policy: slow }));
  const { link } = connect(server);
  await using _ = link;
  await server.waitFor('heartbeat');
  server.assign({ policy: { ...slow, heartbeatIntervalMs: 20 } });
  await server.waitFor('heartbeat', 10, 3_000);
});

test('after a restart of the server the link comes back by itself and says the highest epoch it heard', async () => {
  const assignment = testAssignment('/nowhere', { epoch: 3 });
  const first = await AgentSocketServer.start(assignment);
  const { link, listener } = connect(first);
  await using _ = link;
  await first.waitFor('heartbeat', 3);
  const { port } = first;
  await first[Symbol.asyncDispose]();
  await eventually('a failed attempt', () => listener.troubles.length >= 2);
  await using second = await AgentSocketServer.start(assignment, port);
  await second.waitFor('heartbeat', 3);
  expect(second.hellos()[0]?.lastEpoch).toBe(3);
  expect(listener.troubles.every((trouble) => trouble.retryInMs <= 5_000)).toBe(true);
});

test('a server that accepts beats but never acknowledges them is given up after five seconds', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  server.acks = false;
  const { link, listener } = connect(server);
  await using _ = link;
  await eventually('the half-open connection is given up', () => server.connectionCount === 2, 12_000);
  expect(listener.troubles[0]?.message).toContain('half-open');
});

test('messages given while the link is down arrive once it is back', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  const { link, listener } = connect(server);
  await using _ = link;
  await server.waitFor('heartbeat');
  server.dropAll();
  await eventually('the loss is noticed', () => listener.states.includes('waiting'));
  const commandId = newId('command');
  link.send({
    kind: 'command-result',
    commandId,
    outcome: { ok: true, result: { name: 'snapshot', record: null } },
  });
  expect((await server.waitFor('command-result')).commandId).toBe(commandId);
});

test('a commit is asked again after a reconnect, under the same request id, until it is answered', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  server.decide = () => null;
  const { link } = connect(server);
  await using _ = link;
  await server.waitFor('heartbeat');
  const verdict = link.commitSnapshot({ epoch: 1, snapshot: record() }, new AbortController().signal);
  const first = await server.waitFor('snapshot-commit');
  server.decide = () => ({ kind: 'committed', seq: 9 });
  server.dropAll();
  expect(await verdict).toEqual({ kind: 'committed', seq: 9 });
  expect(server.of('snapshot-commit').every((commit) => commit.requestId === first.requestId)).toBe(true);
});

test('a commit can be given up', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  server.decide = () => null;
  const { link } = connect(server);
  await using _ = link;
  const stop = new AbortController();
  const verdict = link.commitSnapshot({ epoch: 1, snapshot: record() }, stop.signal);
  stop.abort();
  await expect(verdict).rejects.toMatchObject({ code: 'ABORTED' });
});

test('a refused token ends the link for good, with the words of the control plane', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  server.refusal = {
    refused: { code: 'UNAUTHORIZED', message: 'the token is wrong', hint: 'get a new one' },
    closeCode: CLOSE_CODES.unauthorized,
  };
  const { link, listener } = connect(server);
  await using _ = link;
  expect(await link.ended).toEqual({ reason: 'unauthorized', message: 'the token is wrong', hint: 'get a new one' });
  expect(listener.states.at(-1)).toBe('closed');
  expect(server.connectionCount).toBe(1);
});

test.each([
  ['released', CLOSE_CODES.released],
  ['superseded', CLOSE_CODES.superseded],
] as const)('being %s ends the link for good', async (reason, code) => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  const { link } = connect(server);
  await using _ = link;
  await server.waitFor('heartbeat');
  server.closeAll(code);
  expect((await link.ended).reason).toBe(reason);
});

test('unknown fields are ignored', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  const { link, listener } = connect(server);
  await using _ = link;
  await server.waitFor('heartbeat');
  server.sendText(JSON.stringify({ kind: 'heartbeat-ack', seq: 1, epoch: 41, colour: 'blue' }));
  await eventually('the ack is heard', () => listener.epochs.includes(41));
  expect(server.connectionCount).toBe(1);
});

test.each([
  ['an unknown kind', '{"kind":"sing"}', 'kind'],
  ['text that is not JSON', 'hello?', 'not JSON'],
  ['a field of the wrong type', '{"kind":"heartbeat-ack","seq":"one","epoch":1}', 'seq'],
])('%s closes the connection with the reason and the link tries again', async (_name, text, words) => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  const { link, listener } = connect(server);
  await using _ = link;
  await server.waitFor('heartbeat');
  server.sendText(text);
  await eventually('the connection closes', () => server.closes[0]);
  expect(server.closes[0]?.code).toBe(CLOSE_CODES.protocol);
  const trouble = await eventually('the trouble is told', () => listener.troubles[0]);
  expect(trouble).toMatchObject({ doing: 'decode' });
  expect(trouble.message).toContain(words);
  await eventually('the link is back', () => server.hellos().length === 2);
});

test('closing the link is a normal close, and closing twice is once', async () => {
  await using server = await AgentSocketServer.start(testAssignment('/nowhere'));
  const { link } = connect(server);
  await server.waitFor('heartbeat');
  await link[Symbol.asyncDispose]();
  await link[Symbol.asyncDispose]();
  expect((await link.ended).reason).toBe('stopped');
  await eventually('the server sees the close', () => server.closes[0]);
  expect(server.closes[0]?.code).toBe(1000);
});
