import { newId } from '@dumont/shared/model/ids.ts';
import type { Action, CommandProgress, CommandResult } from '@dumont/shared/protocol/command.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { expect, test } from 'vitest';
import { hubWorld, TestAgent } from './hub-world.ts';

const STOP: Action = { name: 'stop-workload', graceMs: 0 };
const instance = newId('instance');

function options(timeoutMs = 10_000) {
  return { commandId: newId('command'), timeoutMs, signal: new AbortController().signal };
}

function done(commandId: string): CommandResult {
  const result = { name: 'stop-workload', state: 'stopped' } as const;
  return { kind: 'command-result', commandId, outcome: { ok: true, result } } as CommandResult;
}

test('a command resolves with the result of the agent, its progress on the way', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  const progress: number[] = [];
  const onProgress = (each: CommandProgress) => progress.push(each.doneBytes);
  const running = world.hub.run(instance, STOP, { ...options(), onProgress });
  const { commandId, action } = await agent.next('command');
  expect(action).toEqual(STOP);
  agent.send({ kind: 'command-ack', commandId });
  for (const doneBytes of [1, 2]) {
    agent.send({ kind: 'command-progress', commandId, doneBytes, totalBytes: 2, doneFiles: 0, totalFiles: 1 });
  }
  agent.send(done(commandId));
  expect(await running).toEqual({ name: 'stop-workload', state: 'stopped' });
  expect(progress).toEqual([1, 2]);
});

test('a command given before the agent connects is delivered with its welcome', async () => {
  await using world = await hubWorld();
  const running = world.hub.run(instance, STOP, options());
  const agent = await TestAgent.greeted(world.url, instance);
  agent.send(done((await agent.next('command')).commandId));
  expect(await running).toMatchObject({ state: 'stopped' });
});

test('a command survives a reconnect: it is sent again with the same id', async () => {
  await using world = await hubWorld();
  const first = await TestAgent.greeted(world.url, instance);
  const running = world.hub.run(instance, STOP, options());
  const { commandId } = await first.next('command');
  first.send({ kind: 'command-ack', commandId });
  first.socket.terminate();
  await world.fact('disconnected abruptly 1006');
  const second = await TestAgent.greeted(world.url, instance);
  expect((await second.next('command')).commandId).toBe(commandId);
  second.send(done(commandId));
  expect(await running).toMatchObject({ state: 'stopped' });
});

test('a failure carries the code of the agent', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  const running = world.hub.run(instance, STOP, options());
  const { commandId } = await agent.next('command');
  const outcome = { ok: false, code: 'CORRUPT', message: 'pack 7 is damaged', retryable: false };
  agent.send({ kind: 'command-result', commandId, outcome });
  await expect(running).rejects.toMatchObject({
    code: 'CORRUPT',
    retryable: false,
    message: `stop-workload on ${instance}: pack 7 is damaged`,
  });
});

test('a result for another action is a breach of the protocol', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  const running = world.hub.run(instance, { name: 'snapshot' }, options());
  agent.send(done((await agent.next('command')).commandId));
  await expect(running).rejects.toMatchObject({ code: 'PROTOCOL' });
});

test('a command without a result in time says how far it came, and a late result harms nobody', async () => {
  await using world = await hubWorld();
  await expect(world.hub.run(newId('instance'), STOP, options(20))).rejects.toMatchObject({
    code: 'TIMEOUT',
    retryable: true,
    message: expect.stringContaining('the agent was not connected') as string,
  });
  const agent = await TestAgent.greeted(world.url, instance);
  const late = options(50);
  await expect(world.hub.run(instance, STOP, late)).rejects.toThrow('never acknowledged');
  agent.send(done(late.commandId));
  const next = world.hub.run(instance, STOP, options());
  await agent.next('command');
  agent.send(done((await agent.next('command')).commandId));
  expect(await next).toMatchObject({ state: 'stopped' });
});

test('an aborted command rejects and is not delivered again', async () => {
  await using world = await hubWorld();
  const stop = new AbortController();
  const running = world.hub.run(instance, STOP, { ...options(), signal: stop.signal });
  stop.abort(new Error('averted'));
  await expect(running).rejects.toMatchObject({ code: 'ABORTED', cause: stop.signal.reason as Error });
  const kept = world.hub.run(instance, { name: 'stop-workload', graceMs: 5 }, options());
  const agent = await TestAgent.greeted(world.url, instance);
  const { commandId, action } = await agent.next('command');
  expect(action).toMatchObject({ graceMs: 5 });
  agent.send(done(commandId));
  await kept;
});

test('the same command id under way twice is a conflict, and too many commands hit the limit', async () => {
  await using world = await hubWorld({ limits: { maxCommandsPerInstance: 1 } });
  const once = options(50);
  const running = world.hub.run(instance, STOP, once);
  await expect(world.hub.run(instance, STOP, once)).rejects.toMatchObject({ code: 'CONFLICT' });
  await expect(world.hub.run(instance, STOP, options())).rejects.toMatchObject({ code: 'LIMIT' });
  await expect(running).rejects.toMatchObject({ code: 'TIMEOUT' });
});

test('closing an instance ends its session, rejects its commands and takes no more of them', async () => {
  await using world = await hubWorld();
  const agent = await TestAgent.greeted(world.url, instance);
  const running = world.hub.run(instance, STOP, options());
  world.hub.close(instance, CLOSE_CODES.released, 'destroyed');
  await expect(running).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await expect(world.hub.run(instance, STOP, options())).rejects.toThrow('takes no more commands: destroyed');
  expect(await agent.closed()).toBe(CLOSE_CODES.released);
  expect(agent.closeReason).toBe('destroyed');
  expect(world.hub.isConnected(instance)).toBe(false);
});

test('disposing rejects the commands and the waiters', async () => {
  const world = await hubWorld();
  const running = world.hub.run(instance, STOP, options());
  const waiting = world.hub.waitConnected(instance, { signal: new AbortController().signal });
  const outcomes = Promise.allSettled([running, waiting]);
  await world[Symbol.asyncDispose]();
  for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: { code: 'ABORTED' } });
  await expect(world.hub.run(instance, STOP, options())).rejects.toMatchObject({ code: 'ABORTED' });
});
