import { Candidates, candidatesOf } from './candidates.ts';
import type { ObtainOptions, Strategy, StrategyOutcome } from './strategy.ts';

/** One machine after another, the best first: the cheapest way, and the slowest when orders fail. */
export const coldstart: Strategy = {
  name: 'coldstart',
  async obtain(options: ObtainOptions): Promise<StrategyOutcome> {
    const candidates = new Candidates(options);
    for (const candidate of candidatesOf(options)) {
      const winner = await candidates.attempt(candidate, options.signal);
      if (winner === null) continue;
      candidates.releaseAllBut(winner, 'another machine was ready first');
      return candidates.ready(winner);
    }
    return candidates.exhausted();
  },
};
