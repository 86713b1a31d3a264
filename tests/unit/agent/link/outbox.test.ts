import { Outbox, OUTBOX_LIMIT, OUTBOX_SAMPLE_LIMIT } from '@dumont/agent/link/outbox.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Upstream } from '@dumont/shared/protocol/messages.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

function ack(): Upstream {
  return { kind: 'command-ack', commandId: newId('command') };
}

function sample(cpuPct: number): Upstream {
  const host = { cpuPct, memoryUsedBytes: 1, memoryTotalBytes: 2, diskUsedBytes: null, diskTotalBytes: null };
  return {
    kind: 'sample',
    gpus: [],
    host: { ...host, networkRxBytesPerSecond: null, networkTxBytesPerSecond: null },
  };
}

test('an outage keeps answers in order and only the newest samples', () => {
  const outbox = new Outbox();
  const answers = [ack(), ack(), ack()];
  for (let index = 0; index < 50; index += 1) {
    outbox.push(sample(index));
    const answer = answers[index];
    if (answer !== undefined) outbox.push(answer);
  }
  const kept = outbox.drain();
  expect(kept.filter((message) => message.kind === 'command-ack')).toEqual(answers);
  const cpus = kept.flatMap((message) => (message.kind === 'sample' ? [message.host.cpuPct] : []));
  expect(cpus).toEqual(Array.from({ length: OUTBOX_SAMPLE_LIMIT }, (_, index) => 42 + index));
  expect(outbox.droppedCount).toBe(42);
  expect(outbox.drain()).toEqual([]);
});

test('the outbox never grows beyond its bound and drops answers only when nothing else is left', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 400 }), (kinds) => {
      const outbox = new Outbox();
      const answers = kinds.filter((isAnswer) => isAnswer).length;
      for (const isAnswer of kinds) outbox.push(isAnswer ? ack() : sample(1));
      const kept = outbox.drain();
      expect(kept.length).toBeLessThanOrEqual(OUTBOX_LIMIT);
      expect(kept.filter((message) => message.kind === 'command-ack').length).toBe(Math.min(answers, OUTBOX_LIMIT));
      expect(kept.length + outbox.droppedCount).toBe(kinds.length);
    }),
  );
});
