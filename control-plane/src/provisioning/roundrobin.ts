import type { Offer } from '@dumont/shared/model/offer.ts';
import { coldstart } from './coldstart.ts';
import { kindKey } from './placement.ts';
import type { ObtainOptions, Strategy, StrategyOutcome } from './strategy.ts';

/** Time for each machine: marketplaces boot in one to two minutes, and the next one waits. */
const ATTEMPT_MS = 120_000;

/**
 * One machine after another, each of another provider or kind of GPU than the one before, with a short time for each: as
 * cheap as a cold start, and a shortage or a fault of one kind costs one attempt instead of all.
 */
export const roundrobin: Strategy = {
  name: 'roundrobin',
  obtain(options: ObtainOptions): Promise<StrategyOutcome> {
    const bootDeadlineMs = Math.min(options.bootDeadlineMs, ATTEMPT_MS);
    return coldstart.obtain({ ...options, offers: rotate(options.offers), bootDeadlineMs });
  },
};

/** The best of each kind, the kinds in the order of their best; then the second best of each; and so on. Pure. */
export function rotate(offers: readonly Offer[]): readonly Offer[] {
  const kinds = [...Map.groupBy(offers, kindKey).values()];
  const rounds = Math.max(0, ...kinds.map(({ length }) => length));
  return Array.from({ length: rounds }, (_, round) => kinds.flatMap((kind) => kind[round] ?? [])).flat();
}
