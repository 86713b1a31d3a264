import { rankByScore, scoreOffer, spread, type PlacementNeeds } from '@dumont/control-plane/provisioning/placement.ts';
import { rotate } from '@dumont/control-plane/provisioning/roundrobin.ts';
import { widen } from '@dumont/control-plane/provisioning/widen.ts';
import { locate } from '@dumont/control-plane/regions/locate.ts';
import { offerPolicySchema } from '@dumont/shared/model/policy.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { someOffer } from '../../../world/rows.ts';

const NOTHING: PlacementNeeds = { restoreBytes: 0, standby: undefined, hostOf: () => undefined };

const anyOffer = fc
  .record({
    offerId: fc.uuid(),
    provider: fc.constantFrom('one', 'two'),
    machineId: fc.constantFrom('a', 'b', 'c', 'd'),
    gpuName: fc.constantFrom('RTX 4090', 'H100', 'A100'),
    region: fc.constantFrom('eu-west', 'us-east'),
    priceMicroUsdPerHour: fc.integer({ min: 1_000, max: 1_000_000 }),
    reliability: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map((over) => someOffer(over));

test('an unknown host is judged by its price and what its provider says of it', () => {
  const score = scoreOffer(someOffer({ priceMicroUsdPerHour: 100_000, reliability: 0.9 }), NOTHING);
  expect(score).toMatchObject({ lossMicroUsd: 10_000, restoreMicroUsd: 0, standbyRttMs: null, totalMicroUsd: 110_000 });
});

test('machines that failed or were lost make a host dearer, and those that came up cheaper', () => {
  const offer = someOffer({ reliability: 0.9 });
  const lossWith = (record: { ready: number; failed: number; interrupted: number }) =>
    scoreOffer(offer, { ...NOTHING, hostOf: () => record }).expectedLoss;
  expect(lossWith({ ready: 0, failed: 2, interrupted: 0 })).toBeCloseTo(3 / 12);
  expect(lossWith({ ready: 10, failed: 0, interrupted: 0 })).toBeCloseTo(1 / 20);
  expect(lossWith({ ready: 10, failed: 0, interrupted: 10 })).toBeCloseTo(11 / 20);
});

test('with much to restore a faster line is worth a higher price', () => {
  const slow = someOffer({ offerId: 'slow', priceMicroUsdPerHour: 300_000, downloadMbps: 50 });
  const fast = someOffer({ offerId: 'fast', priceMicroUsdPerHour: 330_000, downloadMbps: 5_000 });
  const first = (restoreBytes: number) => rankByScore([slow, fast], { ...NOTHING, restoreBytes })[0]?.offer.offerId;
  expect(first(0)).toBe('slow');
  expect(first(20e9)).toBe('fast');
});

test('a machine near the standby is worth a higher price', () => {
  const far = someOffer({ offerId: 'far', priceMicroUsdPerHour: 300_000, region: 'us-west' });
  const near = someOffer({ offerId: 'near', priceMicroUsdPerHour: 360_000, region: 'eu-west' });
  const standby = locate('eu-west');
  expect(rankByScore([far, near], { ...NOTHING, standby })[0]?.offer.offerId).toBe('near');
  expect(rankByScore([far, near], NOTHING)[0]?.offer.offerId).toBe('far');
});

test('the order of the offers changes nothing, and the total is the sum of its parts', () => {
  fc.assert(
    fc.property(fc.uniqueArray(anyOffer, { selector: ({ offerId }) => offerId }), (offers) => {
      const ranked = rankByScore(offers, { ...NOTHING, restoreBytes: 1e9 });
      expect(rankByScore(offers.toReversed(), { ...NOTHING, restoreBytes: 1e9 })).toEqual(ranked);
      for (const { score } of ranked) {
        const { priceMicroUsdPerHour, lossMicroUsd, restoreMicroUsd, distanceMicroUsd, totalMicroUsd } = score;
        const sum = priceMicroUsdPerHour + lossMicroUsd + restoreMicroUsd + distanceMicroUsd;
        expect(Math.abs(totalMicroUsd - sum)).toBeLessThanOrEqual(2);
      }
    }),
  );
});

test('those raced first are on different hosts while there are others, and nobody is lost or added', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(anyOffer, { selector: ({ offerId }) => offerId }),
      fc.integer({ min: 1, max: 5 }),
      (offers, width) => {
        const ranked = rankByScore(offers, NOTHING);
        const chosen = spread(ranked, width);
        expect(new Set(chosen)).toEqual(new Set(ranked));
        const hostsOf = (items: typeof chosen) => items.map(({ offer }) => `${offer.provider} ${offer.machineId}`);
        const different = Math.min(width, new Set(hostsOf(ranked)).size);
        expect(new Set(hostsOf(chosen.slice(0, width))).size).toBe(different);
        if (width === 1) expect(chosen).toEqual(ranked);
      },
    ),
  );
});

test('a round robin takes one of each kind before the second of any, and every offer once', () => {
  fc.assert(
    fc.property(fc.uniqueArray(anyOffer, { selector: ({ offerId }) => offerId }), (offers) => {
      const rotated = rotate(offers);
      expect(new Set(rotated)).toEqual(new Set(offers));
      const kindOf = ({ provider, gpuName }: (typeof offers)[number]) => `${provider} ${gpuName}`;
      const kinds = new Set(offers.map(kindOf));
      expect(new Set(rotated.slice(0, kinds.size).map(kindOf))).toEqual(kinds);
    }),
  );
});

test('what a policy prefers is given up in its order: the kind of GPU, the region, the price', () => {
  const prefer = { gpuNames: ['H100'], regions: ['eu-west'], maxPriceMicroUsdPerHour: 200_000 };
  const policy = offerPolicySchema.parse({ prefer });
  const dear = someOffer({ offerId: 'dear', region: 'us-east', priceMicroUsdPerHour: 900_000 });
  const far = someOffer({ offerId: 'far', region: 'us-east', priceMicroUsdPerHour: 150_000 });
  const other = someOffer({ offerId: 'other', region: 'eu-west', priceMicroUsdPerHour: 150_000 });
  const right = someOffer({ offerId: 'right', gpuName: 'H100', region: 'eu-west', priceMicroUsdPerHour: 150_000 });
  const all = [dear, far, other, right];
  expect(widen(all, policy)).toEqual({ offers: [right], widened: [] });
  expect(widen(all.slice(0, 3), policy)).toEqual({ offers: [other], widened: ['gpuNames'] });
  expect(widen(all.slice(0, 2), policy)).toEqual({ offers: [far], widened: ['gpuNames', 'regions'] });
  expect(widen([dear], policy)).toEqual({ offers: [dear], widened: ['gpuNames', 'regions', 'price'] });
  expect(widen([], policy)).toEqual({ offers: [], widened: [] });
  expect(widen([dear], offerPolicySchema.parse({}))).toEqual({ offers: [dear], widened: [] });
});
