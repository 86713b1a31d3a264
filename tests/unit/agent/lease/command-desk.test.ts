import { CommandDesk, MAX_RUNNING_COMMANDS, REMEMBERED_RESULTS } from '@dumont/agent/lease/command-desk.ts';
import type { WorkOptions } from '@dumont/agent/lease/engine.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Action, ActionResult, Command } from '@dumont/shared/protocol/command.ts';
import type { Upstream } from '@dumont/shared/protocol/messages.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

function command(commandId = newId('command')): Command {
  return { kind: 'command', commandId, action: { name: 'snapshot' } };
}

function deskOf(perform: (action: Action, options: WorkOptions) => Promise<ActionResult>) {
  const sent: Upstream[] = [];
  const clock = new ManualClock();
  const desk = new CommandDesk({ perform, send: (message) => sent.push(message), clock });
  const kinds = () => sent.map((message) => message.kind);
  return { desk, sent, clock, kinds };
}

const DONE: ActionResult = { name: 'snapshot', record: null };

test('a repeat of a finished command gets the first result again, for the last 64', async () => {
  let performed = 0;
  const { desk, sent } = deskOf(() => {
    performed += 1;
    return Promise.resolve(DONE);
  });
  const commands = Array.from({ length: REMEMBERED_RESULTS + 1 }, () => command());
  for (const one of commands) {
    desk.receive(one);
    await desk.settled();
  }
  expect(performed).toBe(REMEMBERED_RESULTS + 1);
  for (const one of commands.slice(1)) desk.receive(one);
  expect(performed).toBe(REMEMBERED_RESULTS + 1);
  expect(sent.filter((message) => message.kind === 'command-result')).toHaveLength(2 * REMEMBERED_RESULTS + 1);
});

test('a repeat of a running command is acknowledged and joins it', async () => {
  const gate = Promise.withResolvers<ActionResult>();
  const { desk, kinds } = deskOf(() => gate.promise);
  const one = command();
  desk.receive(one);
  desk.receive(one);
  expect(kinds()).toEqual(['command-ack', 'command-ack']);
  gate.resolve(DONE);
  await desk.settled();
  expect(kinds()).toEqual(['command-ack', 'command-ack', 'command-result']);
});

test('progress goes out at most twice a second', async () => {
  const gate = Promise.withResolvers<WorkOptions>();
  const end = Promise.withResolvers<ActionResult>();
  const { desk, sent, clock } = deskOf((_action, options) => {
    gate.resolve(options);
    return end.promise;
  });
  desk.receive(command());
  const { onProgress } = await gate.promise;
  for (let tick = 0; tick < 100; tick += 1) {
    onProgress({ doneBytes: tick, totalBytes: 100, doneFiles: 0, totalFiles: 1 });
    await clock.advance(20);
  }
  end.resolve(DONE);
  await desk.settled();
  const progress = sent.flatMap((message) => (message.kind === 'command-progress' ? [message.doneBytes] : []));
  expect(progress).toEqual([0, 25, 50, 75]);
});

test('a failure is a result with its code, and an abort gives the reason of the abort', async () => {
  const { desk, sent } = deskOf((_action, { signal }) => {
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('whatever')));
    });
  });
  desk.receive(command());
  desk.abortAll(new DumontError('STALE_EPOCH', 'fenced', { hint: 'stay away' }));
  await desk.settled();
  expect(sent.at(-1)).toMatchObject({
    outcome: { ok: false, code: 'STALE_EPOCH', message: 'fenced (stay away)', retryable: false },
  });
});

test('more commands than fit are refused, not queued, and may come again', () => {
  const { desk, sent } = deskOf(() => new Promise(() => {}));
  for (let count = 0; count < MAX_RUNNING_COMMANDS + 1; count += 1) desk.receive(command());
  expect(sent.filter((message) => message.kind === 'command-ack')).toHaveLength(MAX_RUNNING_COMMANDS + 1);
  expect(sent.at(-1)).toMatchObject({ outcome: { ok: false, code: 'LIMIT', retryable: true } });
});
