import { StallHistory } from '@dumont/control-plane/detect/stall-history.ts';
import { witnessWord } from '@dumont/control-plane/detect/witness.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { DetectMode } from '@dumont/shared/model/policy.ts';
import { expect, test } from 'vitest';
import { monitorWorld, newInstance } from './monitor-world.ts';

const instance = newInstance();
const workspaceId = newId('workspace');
const EPOCH = 4;

/** Ten beats, the last one at 2,000 ms, and a standby that beats in between. */
async function witnessedWorld(mode: DetectMode = 'fast') {
  const world = monitorWorld();
  const history = new StallHistory(null, world.clock.nowMs());
  world.monitor.watch(instance, { mode, graceMs: 10_000 });
  world.monitor.introduce(instance, { workspaceId, epoch: EPOCH, history });
  await world.beatFor(instance, 2_000);
  /** Lets time pass while the standby reports every 200 ms that it heard the primary that long ago. */
  const reportFor = async (durationMs: number, heardMsAgo: (nowMs: number) => number, epoch = EPOCH) => {
    for (let passedMs = 0; passedMs < durationMs; passedMs += 200) {
      await world.clock.advance(200);
      const nowMs = world.clock.monotonicMs();
      world.monitor.testify(workspaceId, { epoch, heardMsAgo: heardMsAgo(nowMs) }, nowMs);
    }
  };
  const evidence = () => world.monitor.status(instance)?.evidence.map(({ kind }) => kind) ?? [];
  return { ...world, history, reportFor, evidence };
}

test('a primary that its standby hears is confirmed late and given up only after half a minute', async () => {
  const world = await witnessedWorld();
  await world.reportFor(40_000, () => 100);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 8000', 'commit 32000']);
  expect(world.verdicts.at(-1)?.evidence.map(({ kind }) => kind)).toContain('standby-hears');
});

test('a primary that is heard again by us is taken back, whatever its standby said', async () => {
  const world = await witnessedWorld();
  await world.reportFor(3_000, () => 100);
  world.beat(instance);
  expect(world.course()).toEqual(['suspect 2600', 'alive 5000']);
});

test('a standby that lost it too makes the balanced mode commit after six seconds instead of twelve', async () => {
  const world = await witnessedWorld('balanced');
  await world.reportFor(12_000, (nowMs) => nowMs - 2_050);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'commit 8000']);
  expect(world.verdicts[1]?.evidence.map(({ kind }) => kind).sort()).toEqual([
    'probe-silent',
    'silence',
    'standby-lost',
  ]);
});

test('where nobody can be probed, the word of the standby confirms at once', async () => {
  const world = await witnessedWorld();
  world.script.find = () => [];
  await world.reportFor(6_000, (nowMs) => nowMs - 2_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'commit 5000']);
});

test('a machine that answers the probe is not given up sooner because its standby does not hear its agent', async () => {
  const world = await witnessedWorld();
  world.script.find = () => ['probe-answered'];
  await world.reportFor(10_000, (nowMs) => nowMs - 2_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 5000', 'commit 8000']);
});

test('a confirm waits a moment for a standby that is about to tell', async () => {
  const world = await witnessedWorld();
  await world.reportFor(600, () => 250);
  expect(world.course()).toEqual(['suspect 2600']);
  await world.clock.advance(150);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2750']);
});

test.each([
  ['that is silent itself', 0, () => 100, EPOCH],
  ['of another epoch', 20_000, () => 100, EPOCH - 1],
  ['whose connection broke long before', 20_000, (nowMs: number) => nowMs + 5_000, EPOCH],
] as const)('a standby %s proves nothing', async (_, reportsForMs, heardMsAgo, epoch) => {
  const world = await witnessedWorld('balanced');
  await world.reportFor(reportsForMs, heardMsAgo, epoch);
  await world.clock.advance(20_000 - reportsForMs);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'commit 14000']);
});

test('a standby whose primary is not watched any more may go on reporting', async () => {
  const world = await witnessedWorld();
  world.monitor.unwatch(instance);
  await world.reportFor(1_000, () => 100);
  expect(world.course()).toEqual([]);
});

test('what a dying primary sent last, to its standby a little later than to us, is no sign of life', () => {
  const silence = { nowMs: 2_600, lastSignMs: 2_000 };
  expect(witnessWord({ reportedAtMs: 2_550, heardAtMs: 2_400 }, silence)).toBe('pending');
  expect(witnessWord({ reportedAtMs: 2_550, heardAtMs: 2_401 }, silence)).toBe('hears');
  expect(witnessWord({ reportedAtMs: 2_550, heardAtMs: 2_100 }, silence)).toBe('lost');
});
