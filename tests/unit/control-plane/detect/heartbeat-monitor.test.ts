import { STANDARD_KNOBS } from '@dumont/control-plane/detect/suspicion.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { evidence, heartbeat, monitorWorld, newInstance } from './monitor-world.ts';

const instance = newInstance();

/** Ten beats, the last one at 2,000 ms. */
async function beatingWorld() {
  const world = monitorWorld();
  world.monitor.watch(instance, { mode: 'fast', graceMs: 10_000 });
  await world.beatFor(instance, 2_000);
  expect(world.monitor.status(instance)?.state).toBe('alive');
  return world;
}

test('silence is suspected and confirmed 600 ms after the last beat, and committed after the delay of the mode', async () => {
  const world = await beatingWorld();
  await world.clock.advance(10_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'commit 5000']);
  const [suspect, , commit] = world.verdicts;
  expect(suspect).toMatchObject({ silenceMs: 600, lastBeatAtMs: world.clock.nowMs() - 10_000 });
  expect(commit?.evidence.map((item) => item.kind).sort()).toEqual(['probe-silent', 'silence']);
  expect(world.monitor.status(instance)?.state).toBe('committed');
});

test('the balanced and cautious modes wait six and ten seconds, and twice that where nobody else lost the machine', async () => {
  for (const [mode, found, delayMs] of [
    ['balanced', 'provider-unreachable', 6_000],
    ['balanced', 'probe-silent', 12_000],
    ['cautious', 'provider-unreachable', 10_000],
    ['cautious', 'probe-silent', 20_000],
    ['adaptive', 'probe-silent', 12_000],
  ] as const) {
    const world = await beatingWorld();
    world.script.find = () => [found];
    world.monitor.watch(instance, { mode, graceMs: 0 });
    await world.clock.advance(20_000);
    expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', `commit ${2_000 + delayMs}`]);
  }
});

test('the machine is asked at the first missed beats, before the suspicion, and then about once a second', async () => {
  const world = await beatingWorld();
  await world.clock.advance(3_000);
  expect(world.asked).toEqual([2_350, 3_350, 4_350]);
});

test('a beat that returns before the commit takes everything back and is booked as averted', async () => {
  const world = await beatingWorld();
  await world.clock.advance(1_500);
  world.beat(instance);
  await world.beatFor(instance, 5_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'alive 3500']);
  expect(world.monitor.status(instance)).toMatchObject({ state: 'alive', mistakeCount: 1, avertedCount: 1 });
});

test('a machine that answers keeps a silent agent suspect until the delay, and doubles the delay of the commit', async () => {
  const world = await beatingWorld();
  world.script.find = () => ['probe-answered'];
  world.script.takesMs = 5;
  await world.clock.advance(10_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 5000', 'commit 8000']);
});

test('an answer given before the suspicion is asked for again when it falls due', async () => {
  const world = await beatingWorld();
  world.script.takesMs = 5;
  world.script.find = () => (world.clock.monotonicMs() < 2_500 ? ['probe-answered'] : ['probe-silent']);
  await world.clock.advance(1_000);
  expect(world.asked).toEqual([2_350, 2_600]);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2605']);
});

test('a second opinion that knows nothing is not a silent machine', async () => {
  const world = await beatingWorld();
  world.script.find = () => [];
  await world.clock.advance(10_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 5000', 'commit 8000']);
});

test('a broken second opinion is logged and delays, but never decides', async () => {
  const world = await beatingWorld();
  world.script.find = () => {
    throw new Error('no sockets left');
  };
  await world.clock.advance(10_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 5000', 'commit 8000']);
});

test('hard evidence found during the silence commits as soon as the suspicion is due', async () => {
  const world = await beatingWorld();
  world.script.find = () => ['provider-interrupted'];
  world.script.takesMs = 50;
  await world.clock.advance(3_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'commit 2600']);
});

test('newly hard evidence after the confirm commits at once', async () => {
  const world = await beatingWorld();
  world.monitor.watch(instance, { mode: 'cautious', graceMs: 0 });
  world.script.find = () => (world.clock.monotonicMs() < 4_000 ? ['probe-silent'] : ['probe-silent', 'provider-gone']);
  await world.clock.advance(10_000);
  expect(world.course()).toEqual(['suspect 2600', 'confirm 2600', 'commit 4600']);
});

test('an abrupt close with a refused probe commits at once', async () => {
  const world = await beatingWorld();
  world.script.find = () => ['probe-refused'];
  world.script.takesMs = 20;
  await world.clock.advance(50);
  world.monitor.disconnected(instance, { abrupt: true });
  await world.clock.advance(20);
  expect(world.course()).toEqual(['suspect 2070', 'confirm 2070', 'commit 2070']);
  expect(world.verdicts[2]?.evidence.map((item) => item.kind)).toEqual(['socket-closed', 'probe-refused']);
});

test('an abrupt close of an agent whose machine answers waits for the silence, and a hello settles it', async () => {
  const world = await beatingWorld();
  world.script.find = () => ['probe-answered'];
  world.script.takesMs = 5;
  world.monitor.disconnected(instance, { abrupt: true });
  await world.clock.advance(500);
  world.monitor.connected(instance);
  await world.beatFor(instance, 2_000);
  expect(world.asked[0]).toBe(2_000);
  expect(world.course()).toEqual([]);
});

test('a machine that dies a moment after its agent is asked again before the suspicion', async () => {
  const world = await beatingWorld();
  world.script.takesMs = 5;
  world.script.find = () => (world.clock.monotonicMs() < 2_080 ? ['probe-answered'] : ['probe-refused']);
  world.monitor.disconnected(instance, { abrupt: true });
  await world.clock.advance(150);
  expect(world.course()).toEqual(['suspect 2080', 'confirm 2080', 'commit 2080']);
});

test('a goodbye proves nothing and asks nobody before its time', async () => {
  const world = await beatingWorld();
  world.monitor.disconnected(instance, { abrupt: false });
  await world.clock.advance(349);
  expect(world.asked).toEqual([]);
});

test('a second opinion that comes back after the beats did is thrown away', async () => {
  const world = await beatingWorld();
  world.script.find = () => ['probe-refused'];
  await world.clock.advance(400);
  world.beat(instance);
  await world.clock.advance(300);
  expect(world.asked).toEqual([2_350]);
  expect(world.course()).toEqual([]);
});

test('a person commits at once, even while beats flow, and only once', async () => {
  const world = await beatingWorld();
  expect(world.monitor.inject(instance, { kind: 'operator', hard: true, atMs: 1, detail: 'drill' })).toBe(true);
  expect(world.course()).toEqual(['suspect 2000', 'confirm 2000', 'commit 2000']);
  expect(world.monitor.inject(instance, evidence('provider-gone'))).toBe(false);
  await world.beatFor(instance, 2_000);
  expect(world.verdicts).toHaveLength(3);
});

test('during the grace silence proves nothing; afterwards it counts from the end of the grace', async () => {
  const world = monitorWorld();
  world.monitor.watch(instance, { mode: 'fast', graceMs: 10_000 });
  await world.clock.advance(20_000);
  expect(world.course()).toEqual(['suspect 10600', 'confirm 10600', 'commit 13000']);
});

test('the third beat ends the grace', async () => {
  const world = monitorWorld();
  world.monitor.watch(instance, { mode: 'fast', graceMs: 60_000 });
  await world.beatFor(instance, 400);
  expect(world.monitor.status(instance)?.state).toBe('grace');
  await world.beatFor(instance, 200);
  expect(world.monitor.status(instance)?.state).toBe('alive');
  await world.clock.advance(700);
  expect(world.course()).toEqual(['suspect 1200', 'confirm 1200']);
});

test('unwatching ends all verdicts, also from inside one', async () => {
  const world = await beatingWorld();
  world.script.find = () => ['probe-refused'];
  const pushed = world.verdicts.push.bind(world.verdicts);
  world.verdicts.push = (verdict) => {
    world.monitor.unwatch(instance);
    return pushed(verdict);
  };
  await world.clock.advance(10_000);
  expect(world.course()).toEqual(['suspect 2600']);
  expect(world.monitor.status(instance)).toBeNull();
});

test('a stepped wall clock changes nothing', async () => {
  const world = await beatingWorld();
  world.clock.stepWall(3_600_000);
  await world.beatFor(instance, 1_000);
  world.clock.stepWall(-7_200_000);
  await world.beatFor(instance, 1_000);
  expect(world.course()).toEqual([]);
  await world.clock.advance(1_000);
  expect(world.course()).toEqual(['suspect 4600', 'confirm 4600']);
});

test('a fleet that falls silent together is suspected later, because it may be us', async () => {
  const world = monitorWorld();
  const fleet = Array.from({ length: 10 }, newInstance);
  for (const each of fleet) world.monitor.watch(each, { mode: 'fast', graceMs: 0 });
  for (let round = 0; round < 10; round += 1) {
    await world.clock.advance(200);
    fleet.forEach(world.beat);
  }
  await world.clock.advance(2_300);
  expect(world.course()).toEqual([]);
  expect(world.monitor.awarenessLevel).toBe(3);
  await world.clock.advance(8_000);
  expect(world.verdicts.filter(({ kind }) => kind === 'suspect')).toHaveLength(10);
  // Four times three seconds: a fleet is not given up as fast as one machine.
  expect(world.verdicts.some(({ kind }) => kind === 'commit')).toBe(false);
  await world.clock.advance(2_000);
  expect(world.verdicts.filter(({ kind }) => kind === 'commit')).toHaveLength(10);
});

test('what our own event loop is late by is taken off every silence, and no more than that', async () => {
  const world = await beatingWorld();
  // The last beat came at 2,000 ms, the sweep runs every 25 ms.
  world.script.loopLagMs = 60;
  await world.clock.advance(1_000);
  expect(world.course()).toEqual(['suspect 2675', 'confirm 2675']);
});

test('a lag that listening time accounts for by itself is not taken off twice', async () => {
  const world = await beatingWorld();
  world.script.loopLagMs = 5_000;
  await world.clock.advance(1_000);
  expect(world.course()).toEqual(['suspect 2700', 'confirm 2700']);
});

test('a control plane stopped for two seconds suspects nobody when it wakes', async () => {
  const world = monitorWorld();
  const fleet = Array.from({ length: 50 }, newInstance);
  for (const each of fleet) world.monitor.watch(each, { mode: 'fast', graceMs: 0 });
  for (let round = 0; round < 10; round += 1) {
    await world.clock.advance(200);
    fleet.forEach(world.beat);
  }
  stop(world, 2_000);
  // The sweep runs before the sockets are read; the beats that waited in them come after it, at once.
  await world.clock.advance(1);
  for (const each of fleet) {
    for (let queued = 0; queued < 10; queued += 1) {
      world.monitor.observe(each, heartbeat(2_000 + queued * 200), world.clock.monotonicMs());
    }
  }
  for (let round = 0; round < 10; round += 1) {
    await world.clock.advance(200);
    fleet.forEach(world.beat);
  }
  expect(world.course()).toEqual([]);
});

test('a machine that died while the control plane was stopped is still found within seconds', async () => {
  const world = await beatingWorld();
  stop(world, 2_000);
  await world.clock.advance(3_000);
  expect(world.verdicts.map(({ kind }) => kind).slice(0, 2)).toEqual(['suspect', 'confirm']);
});

test('a beat read before the late sweep does not hide a death afterwards', async () => {
  const world = await beatingWorld();
  stop(world, 5_000, () => world.beat(instance));
  await world.clock.advance(2_500);
  expect(world.course().map((line) => line.split(' ')[0])).toEqual(['suspect', 'confirm']);
});

test('beats closer than the floor never raise a suspicion', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 499 }), { minLength: 1, maxLength: 120 }), async (gapsMs) => {
      const world = monitorWorld();
      world.monitor.watch(instance, { mode: 'fast', graceMs: 0 });
      for (const gapMs of gapsMs) {
        await world.clock.advance(gapMs);
        world.beat(instance);
      }
      expect(world.verdicts).toEqual([]);
      await Promise.all([world.monitor[Symbol.asyncDispose](), world.clock.advance(250)]);
    }),
    { numRuns: 60 },
  );
});

test('whatever the rhythm was, a death is confirmed within a second of the last beat', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 150, max: 260 }), { minLength: 5, maxLength: 60 }), async (gapsMs) => {
      const world = monitorWorld();
      world.monitor.watch(instance, { mode: 'fast', graceMs: 0 });
      for (const gapMs of gapsMs) {
        await world.clock.advance(gapMs);
        world.beat(instance);
      }
      await world.clock.advance(1_000);
      expect(world.verdicts.map(({ kind }) => kind)).toEqual(['suspect', 'confirm']);
    }),
    { numRuns: 40 },
  );
});

test('five thousand agents at five beats a second cost a small part of one core', async () => {
  const world = monitorWorld();
  const fleet = Array.from({ length: 5_000 }, newInstance);
  for (const each of fleet) world.monitor.watch(each, { mode: 'fast', graceMs: 0 });
  const startedMs = performance.now();
  for (let round = 0; round < 25; round += 1) {
    await world.clock.advance(200);
    fleet.forEach(world.beat);
  }
  const tookMs = performance.now() - startedMs;
  // Five simulated seconds; a tenth of a core would be 500 ms. The bound leaves room for a busy test machine.
  expect(tookMs).toBeLessThan(1_500);
  expect(world.verdicts).toEqual([]);
});

test('disposing waits for the second opinion under way and judges nothing afterwards', async () => {
  const world = await beatingWorld();
  await world.clock.advance(400);
  const disposed = world.monitor[Symbol.asyncDispose]();
  await world.clock.advance(5_000);
  await disposed;
  expect(world.asked).toEqual([2_350]);
  expect(world.course()).toEqual([]);
});

test('the standard floor is the bound that the tests above rely on', () => {
  expect(STANDARD_KNOBS.suspectFloorMs).toBe(500);
});

/** Time passes while this process is stopped: the clock moves on and no timer fires before the process runs again. */
function stop(world: ReturnType<typeof monitorWorld>, ms: number, onWaking = () => {}): void {
  world.clock.skip(ms);
  onWaking();
}

test('a restart that the agent announced is not judged for five seconds', async () => {
  const world = await beatingWorld();
  world.monitor.disconnected(instance, { abrupt: false, code: CLOSE_CODES.restarting });
  await world.clock.advance(4_900);
  expect(world.course()).toEqual([]);
  world.monitor.connected(instance);
  await world.beatFor(instance, 2_000);
  expect(world.course()).toEqual([]);
  await world.clock.advance(1_000);
  expect(world.verdicts.map(({ kind }) => kind)).toEqual(['suspect', 'confirm']);
});

test('a restart that does not come about counts as silence from the last beat on', async () => {
  const world = await beatingWorld();
  world.monitor.disconnected(instance, { abrupt: false, code: CLOSE_CODES.restarting });
  await world.clock.advance(6_000);
  expect(world.course()).toEqual(['suspect 7000', 'confirm 7000', 'commit 7000']);
});

test('what a person knows counts during an announced restart too', async () => {
  const world = await beatingWorld();
  world.monitor.disconnected(instance, { abrupt: false, code: CLOSE_CODES.restarting });
  await world.clock.advance(1_000);
  world.monitor.inject(instance, { kind: 'operator', hard: true, atMs: 0 });
  expect(world.verdicts.at(-1)?.kind).toBe('commit');
});

test('a machine that speaks after it was given up for its silence is told once, watched or not', async () => {
  const world = await beatingWorld();
  await world.clock.advance(10_000);
  world.monitor.unwatch(instance);
  world.monitor.connected(instance);
  world.monitor.connected(instance);
  world.beat(instance);
  expect(world.returns).toEqual([{ silenceMs: 10_000, machine: 'silent', committed: true }]);
});

test('silences of living machines are told to the journal, but for those that were announced', async () => {
  const world = await beatingWorld();
  await world.clock.advance(1_500);
  world.beat(instance);
  world.monitor.disconnected(instance, { abrupt: false, code: CLOSE_CODES.restarting });
  await world.clock.advance(1_500);
  world.monitor.connected(instance);
  expect(world.silences).toEqual([{ silenceMs: 1_500, machine: 'silent', committed: false }]);
});
