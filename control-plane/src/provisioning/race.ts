import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import { Candidates, candidatesOf } from './candidates.ts';
import type { ObtainOptions, Strategy, StrategyOutcome } from './strategy.ts';

/** Between the first orders: providers limit bursts, and an offer that answers at once may make the next one needless. */
export const RACE_STAGGER_MS = 100;

/**
 * Up to `width` machines at once; the first whose agent says hello wins and the others are released at once. A place
 * that falls free is filled again while offers last. Costs some seconds of the losers, buys the fastest boot.
 */
export const race: Strategy = {
  name: 'race',
  async obtain(options: ObtainOptions): Promise<StrategyOutcome> {
    assert(options.width >= 1, 'a race has at least one lane');
    const candidates = new Candidates(options);
    // Shared by the lanes: what one takes, no other gets.
    const queue = [...candidatesOf(options)];
    const over = new AbortController();
    const signal = AbortSignal.any([options.signal, over.signal]);
    let winner: InstanceId | null = null;

    const run = async (lane: number) => {
      const firstOrder = lane - options.adopted.length;
      if (firstOrder > 0) await options.clock.sleep(firstOrder * RACE_STAGGER_MS, signal);
      for (let candidate = queue.shift(); candidate !== undefined; candidate = queue.shift()) {
        const ready = await candidates.attempt(candidate, signal);
        if (ready !== null) {
          winner ??= ready;
          over.abort(new DOMException('another machine was ready first', 'AbortError'));
          candidates.releaseAllBut(winner, 'lost the race');
          return;
        }
        // More adopted machines than the width allows are watched, but not replaced.
        if (candidates.heldCount >= options.width) return;
      }
    };

    const lanes = Array.from({ length: Math.max(options.width, options.adopted.length) }, (_, lane) => run(lane));
    const ends = await Promise.allSettled(lanes);
    const won = winner as InstanceId | null;
    if (won !== null) {
      // An order that was answered after the finish is held now; nobody waits for it.
      candidates.releaseAllBut(won, 'lost the race');
      return candidates.ready(won);
    }
    options.signal.throwIfAborted();
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    return candidates.exhausted();
  },
};
