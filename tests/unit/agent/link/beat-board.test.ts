import { BeatBoard } from '@dumont/agent/link/beat-board.ts';
import { WORKLOAD_STATES } from '@dumont/shared/protocol/heartbeat.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

test('a reader on the same memory sees what was written last, to a hundredth of a percent', () => {
  fc.assert(
    fc.property(
      fc.record({
        epoch: fc.nat(),
        gpuUtilPct: fc.option(fc.integer({ min: 0, max: 10_000 }).map((value) => value / 100)),
        unsavedMs: fc.nat(),
        workload: fc.constantFrom(...WORKLOAD_STATES),
      }),
      (fields) => {
        const board = new BeatBoard();
        const reader = new BeatBoard(board.buffer);
        const before = reader.pulse();
        board.write(fields);
        expect(reader.read()).toEqual(fields);
        expect(reader.pulse()).not.toBe(before);
      },
    ),
  );
});

test('a fresh board says that nothing is known and nothing runs', () => {
  expect(new BeatBoard().read()).toEqual({ epoch: 0, gpuUtilPct: null, unsavedMs: 0, workload: 'unstarted' });
});

test("a standby's word on its primary stays until the next write", () => {
  const board = new BeatBoard();
  const fields = { epoch: 3, gpuUtilPct: null, unsavedMs: 0, workload: 'unstarted' } as const;
  board.write({ ...fields, peer: { epoch: 3, heardMsAgo: 140 } });
  expect(board.read().peer).toEqual({ epoch: 3, heardMsAgo: 140 });
  board.write(fields);
  expect(board.read()).toEqual(fields);
});
