import { setImmediate } from 'node:timers/promises';
import { RACE_STAGGER_MS } from '@dumont/control-plane/provisioning/race.ts';
import { STRATEGIES } from '@dumont/control-plane/provisioning/strategies.ts';
import type { StrategyOutcome } from '@dumont/control-plane/provisioning/strategy.ts';
import { strategySchema, type StrategyName } from '@dumont/shared/model/policy.ts';
import { must } from '@dumont/shared/util/assert.ts';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';
import { GOOD, instanceOf, offerNamed, ScriptedRenter, type Fate } from './scripted-renter.ts';

const BOOT_DEADLINE_MS = 5_000;
/** Longer than any script takes; a strategy still running then hangs. */
const HORIZON_MS = 200_000;

interface Script {
  readonly strategy: StrategyName;
  readonly fates?: readonly Partial<Fate>[];
  readonly adopted?: readonly Partial<Fate>[];
  readonly width?: number;
  readonly abortAtMs?: number;
  /** Precision of `tookMs`. */
  readonly stepMs?: number;
}

type End =
  | { readonly kind: 'rejected'; readonly reason: unknown }
  | { readonly kind: 'outcome'; readonly outcome: StrategyOutcome };

/** Offers are called `o0, o1, …`, adopted machines `a0, a1, …`. */
async function play(script: Script) {
  const clock = new ManualClock();
  const fates = new Map<string, Fate>();
  for (const [index, fate] of (script.fates ?? []).entries()) fates.set(`o${index}`, { ...GOOD, ...fate });
  const offers = [...fates.keys()].map(offerNamed);
  const adopted = (script.adopted ?? []).map((_, index) => instanceOf(`a${index}`));
  for (const [index, fate] of (script.adopted ?? []).entries()) fates.set(`a${index}`, { ...GOOD, ...fate });
  const renter = new ScriptedRenter(clock, fates, adopted);
  const abort = new AbortController();
  const ends: { readonly end: End; readonly tookMs: number; readonly pendingAtEnd: number }[] = [];
  const finish = (end: End) => ends.push({ end, tookMs: clock.monotonicMs(), pendingAtEnd: renter.pending });
  const running = STRATEGIES[script.strategy]
    .obtain({
      offers,
      renter,
      adopted,
      clock,
      bootDeadlineMs: BOOT_DEADLINE_MS,
      width: script.width ?? 3,
      signal: abort.signal,
    })
    .then(
      (outcome) => finish({ kind: 'outcome', outcome }),
      (reason: unknown) => finish({ kind: 'rejected', reason }),
    );
  if (script.abortAtMs !== undefined) clock.after(script.abortAtMs, () => abort.abort(new Error('stop')));
  while (ends.length === 0) {
    if (clock.monotonicMs() > HORIZON_MS) throw new Error('the strategy hangs');
    await clock.advance(script.stepMs ?? 100);
    await setImmediate();
  }
  await running;
  return { ...must(ends[0], 'the strategy ended'), renter, adopted, fates };
}

async function outcomeOf(script: Script) {
  const played = await play(script);
  if (played.end.kind === 'rejected') throw played.end.reason;
  return { ...played, outcome: played.end.outcome };
}

const fate = fc.record<Fate>({
  rent: fc.constantFrom('rented', 'rented', 'rented', 'offer-gone', 'refused', 'throws'),
  rentMs: fc.integer({ min: 0, max: 1_500 }),
  rentIgnoresAbort: fc.boolean(),
  boot: fc.constantFrom('ready', 'ready', 'failed', 'throws', 'never'),
  bootMs: fc.integer({ min: 0, max: 8_000 }),
  bootAnswersAbort: fc.boolean(),
  releaseThrows: fc.boolean(),
});
const script = fc.record({
  strategy: fc.constantFrom(...strategySchema.options),
  fates: fc.array(fate, { maxLength: 8 }),
  adopted: fc.array(fate, { maxLength: 4 }),
  width: fc.integer({ min: 1, max: 5 }),
});

describe('every strategy', () => {
  test('ends with each rented machine as the winner or as a loser whose release was asked for exactly once', async () => {
    await fc.assert(
      fc.asyncProperty(script, async (given) => {
        const { outcome, renter, adopted, pendingAtEnd } = await outcomeOf(given);
        const winners = outcome.kind === 'ready' ? [outcome.instanceId] : [];
        expect([...winners, ...outcome.losers].toSorted()).toEqual(renter.rented.toSorted());
        expect(renter.released).toEqual(outcome.losers);
        for (const winner of winners) expect(renter.becameReady).toContain(winner);
        expect(new Set(renter.ordered).size).toBe(renter.ordered.length);
        expect(renter.ordered).toEqual(renter.ordered.toSorted());
        const atOnce = given.strategy === 'race' ? given.width : 1;
        expect(renter.mostHeld).toBeLessThanOrEqual(Math.max(atOnce, adopted.length));
        expect(pendingAtEnd).toBe(0);
      }),
    );
  });

  test('gives up only when nothing it could have had comes up in time, and says why for each', async () => {
    await fc.assert(
      fc.asyncProperty(script, async (given) => {
        const { outcome, fates, adopted } = await outcomeOf(given);
        const hopeful = [...fates].filter(
          ([name, { rent, boot, bootMs }]) =>
            boot === 'ready' && bootMs < BOOT_DEADLINE_MS && (rent === 'rented' || adopted.includes(instanceOf(name))),
        );
        if (outcome.kind === 'exhausted') {
          expect(hopeful.filter(([, { bootMs }]) => bootMs < BOOT_DEADLINE_MS)).toEqual([]);
          expect(outcome.attempts).toHaveLength(fates.size);
        } else expect(hopeful).not.toEqual([]);
      }),
    );
  });

  test('collects releases that fail without failing itself', async () => {
    await fc.assert(
      fc.asyncProperty(script, async (given) => {
        const { outcome, fates } = await outcomeOf(given);
        const failing = outcome.losers.filter((id) => fates.get(id.slice(3))?.releaseThrows === true);
        expect((await outcome.releases).map((failure) => failure.instanceId)).toEqual(failing);
      }),
    );
  });

  test('aborted, rejects with the reason, leaves no call behind and releases nothing that had not failed', async () => {
    await fc.assert(
      fc.asyncProperty(script, fc.integer({ min: 0, max: 12_000 }), async (given, abortAtMs) => {
        const { end, renter, pendingAtEnd, fates } = await play({ ...given, abortAtMs });
        expect(pendingAtEnd).toBe(0);
        if (end.kind === 'outcome') return;
        expect(end.reason).toMatchObject({ message: 'stop' });
        for (const released of renter.released) {
          const { boot, bootMs } = fates.get(released.slice(3)) ?? GOOD;
          expect(boot !== 'ready' || bootMs >= BOOT_DEADLINE_MS).toBe(true);
        }
      }),
    );
  });

  test.for(strategySchema.options)('%s uses adopted machines before it orders any', async (strategy) => {
    const { outcome, renter } = await outcomeOf({
      strategy,
      width: 2,
      fates: [{}, {}],
      adopted: [{}, { bootMs: 900 }],
    });
    expect(outcome).toMatchObject({ kind: 'ready' });
    expect(renter.ordered).toEqual([]);
    expect(outcome.losers).toHaveLength(1);
  });

  test.for(strategySchema.options)('%s passes on an error of the program itself', async (strategy) => {
    const clock = new ManualClock();
    const renter = new ScriptedRenter(clock, new Map());
    const obtaining = STRATEGIES[strategy].obtain({
      offers: [offerNamed('without-a-fate')],
      renter,
      adopted: [],
      clock,
      bootDeadlineMs: BOOT_DEADLINE_MS,
      width: 1,
      signal: new AbortController().signal,
    });
    await expect(obtaining).rejects.toThrow('has a fate');
  });
});

describe('coldstart', () => {
  test('takes the best offer that works, one at a time', async () => {
    const { outcome, renter, tookMs } = await outcomeOf({
      strategy: 'coldstart',
      stepMs: 1,
      fates: [{ rent: 'refused' }, { boot: 'never' }, {}, {}],
    });
    expect(outcome).toMatchObject({
      kind: 'ready',
      instanceId: 'in_o2',
      losers: ['in_o1'],
      attempts: [
        { offerId: 'o0', instanceId: null, reason: 'no' },
        { offerId: 'o1', instanceId: 'in_o1', reason: `no hello within ${BOOT_DEADLINE_MS} ms` },
      ],
    });
    expect(renter.ordered).toEqual(['o0', 'o1', 'o2']);
    expect(tookMs).toBe(3 * GOOD.rentMs + BOOT_DEADLINE_MS + GOOD.bootMs);
  });
});

describe('race', () => {
  test('orders up to its width, staggered, and takes the first that is ready', async () => {
    const { outcome, renter, tookMs } = await outcomeOf({
      strategy: 'race',
      stepMs: 1,
      fates: [{ bootMs: 3_000 }, { bootMs: 700 }, { bootMs: 2_000 }, {}],
    });
    expect(outcome).toMatchObject({ kind: 'ready', instanceId: 'in_o1' });
    expect(outcome.losers.toSorted()).toEqual(['in_o0', 'in_o2']);
    expect(renter.ordered).toEqual(['o0', 'o1', 'o2']);
    expect(tookMs).toBe(RACE_STAGGER_MS + GOOD.rentMs + 700);
  });

  test('fills a place that falls free', async () => {
    const { outcome, renter } = await outcomeOf({
      strategy: 'race',
      width: 2,
      fates: [{ rent: 'offer-gone' }, { boot: 'failed', bootMs: 50 }, { bootMs: 900 }, { bootMs: 300 }],
    });
    expect(renter.ordered).toEqual(['o0', 'o1', 'o2', 'o3']);
    expect(outcome).toMatchObject({ kind: 'ready', instanceId: 'in_o3' });
  });

  test('releases a machine whose order was answered after the finish', async () => {
    const { outcome, renter } = await outcomeOf({
      strategy: 'race',
      width: 2,
      fates: [{ bootMs: 500 }, { rentMs: 2_000, rentIgnoresAbort: true }],
    });
    expect(outcome).toMatchObject({ kind: 'ready', instanceId: 'in_o0', losers: ['in_o1'] });
    expect(renter.released).toEqual(['in_o1']);
  });

  test('does not wait for an order that can be called back', async () => {
    const { tookMs } = await outcomeOf({
      strategy: 'race',
      stepMs: 1,
      width: 2,
      fates: [{ bootMs: 500 }, { rentMs: 60_000 }],
    });
    expect(tookMs).toBe(GOOD.rentMs + 500);
  });
});
