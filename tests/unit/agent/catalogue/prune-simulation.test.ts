import { expect, test } from 'vitest';
import { MUTATIONS, runPruneWorld } from '../../../world/prune-world.ts';

/** About a minute and a half of store time each. */
const REQUESTS = 2_500;
const SEEDS = Number(process.env['DUMONT_SIM_SEEDS'] ?? 40);
/** A mutant must be found within this many runs. */
const MUTANT_SEEDS = 400;

test(
  'no snapshot that counts ever misses a pack, whatever two writers and two prunes do and whenever they are killed',
  async () => {
    const total = { commits: 0, aborts: 0, prunes: 0, deletedPacks: 0 };
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const { violation, ...counts } = await runPruneWorld({ seed, requests: REQUESTS });
      expect(violation, `seed ${seed}`).toBeNull();
      for (const name of ['commits', 'aborts', 'prunes', 'deletedPacks'] as const) total[name] += counts[name];
    }
    // The runs are worth something: a good share of everything happens.
    expect(total.commits).toBeGreaterThan(SEEDS * 5);
    expect(total.prunes).toBeGreaterThan(SEEDS * 3);
    expect(total.deletedPacks).toBeGreaterThan(SEEDS * 10);
    expect(total.aborts).toBeGreaterThan(0);
  },
  60_000 + SEEDS * 1_000,
);

test.each(MUTATIONS)(
  'the simulation finds out when the %s',
  async (mutation) => {
    let found: string | null = null;
    for (let seed = 1; seed <= MUTANT_SEEDS && found === null; seed += 1) {
      ({ violation: found } = await runPruneWorld({ seed, requests: REQUESTS, mutation }));
    }
    expect(found).not.toBeNull();
  },
  120_000,
);
