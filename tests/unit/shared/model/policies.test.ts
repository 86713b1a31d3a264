import fc from 'fast-check';
import { ID_PATTERN, newId } from '@dumont/shared/model/ids.ts';
import { costMicroUsd, formatMicroUsd, microUsd } from '@dumont/shared/model/money.ts';
import { offerObjection, offerSchema, rankOffers } from '@dumont/shared/model/offer.ts';
import {
  newPolicySchema,
  offerPolicySchema,
  wantsStandby,
  workloadOf,
  workspacePolicySchema,
} from '@dumont/shared/model/policy.ts';
import { provisionBodySchema } from '@dumont/shared/api/endpoints.ts';
import { expect, test } from 'vitest';
import { someOffer } from '../../../world/rows.ts';

const policy = offerPolicySchema.parse({});
const anyOffer = fc.record({
  offerId: fc.uuid(),
  priceMicroUsdPerHour: fc.integer({ min: 0, max: 3_000_000 }),
  reliability: fc.double({ min: 0, max: 1, noNaN: true }),
  diskGb: fc.integer({ min: 0, max: 200 }),
  region: fc.constantFrom('eu', 'us', 'sa'),
  gpuName: fc.constantFrom('RTX 4090', 'H100'),
});

test('the defaults of a policy are those the product promises', () => {
  expect(workspacePolicySchema.parse({})).toEqual({
    ports: { public: false },
    standby: { enabled: 'auto', acceptLoss: false, maxPriceMicroUsdPerHour: 100_000, trustAfterMs: 0 },
    branches: { harvest: true, waitMs: 0, keepMs: 1_209_600_000 },
    strategy: 'race',
    raceWidth: 3,
    detectMode: 'adaptive',
    snapshotIntervalMs: 30_000,
    offers: {
      maxPriceMicroUsdPerHour: 1_000_000,
      minReliability: 0.9,
      minDiskGb: 20,
      gpuNames: [],
      allowRegions: [],
      denyRegions: [],
      prefer: { gpuNames: [], regions: [] },
    },
  });
  expect(workspacePolicySchema.parse({ workload: { command: 'train' } }).workload).toEqual({
    command: 'train',
    restart: true,
  });
  expect(workspacePolicySchema.safeParse({ raceWidth: 6 }).success).toBe(false);
  expect(workspacePolicySchema.safeParse({ racewidth: 2 }).success).toBe(false);
});

test.each([
  ['fine-tuning', {}, true],
  ['training', {}, true],
  ['inference', {}, false],
  ['notebook', {}, false],
  ['other', {}, false],
  [undefined, {}, false],
  ['inference', { enabled: true }, true],
  ['training', { enabled: false }, false],
  ['fine-tuning', { enabled: false, acceptLoss: true }, false],
] as const)('a workload of kind %s with standby policy %j has a standby: %s', (kind, standby, expected) => {
  const given = newPolicySchema.parse({ workload: { command: 'run', kind }, standby });
  expect(wantsStandby(given)).toBe(expected);
});

test('fine-tuning without a standby must be asked for with open eyes', () => {
  const policy = { workload: { command: 'run', kind: 'fine-tuning' }, standby: { enabled: false } } as const;
  const { error } = provisionBodySchema.safeParse({ name: 'w', policy });
  expect(error?.issues).toMatchObject([{ path: ['policy', 'standby', 'enabled'] }]);
  expect(error?.issues[0]?.message).toContain('acceptLoss');
  // A policy that was stored is read whatever it says.
  expect(wantsStandby(workspacePolicySchema.parse(policy))).toBe(false);
});

test('policies stored before there was a choice mean what they meant', () => {
  const stored = (standby: object | undefined) =>
    workspacePolicySchema.parse({ workload: { command: 'run' }, standby });
  expect(wantsStandby(stored(undefined))).toBe(false);
  expect(wantsStandby(stored({ enabled: true, trustAfterMs: 0 }))).toBe(true);
  expect(wantsStandby(stored({ enabled: false, trustAfterMs: 0 }))).toBe(false);
});

test('agents are not told what a workload is for', () => {
  const policy = workspacePolicySchema.parse({ workload: { command: 'run', kind: 'training' } });
  expect(workloadOf(policy, 'gpu')).toEqual({ command: 'run', restart: true });
});

test.each([
  ['above the price cap', { priceMicroUsdPerHour: 1_000_001 }, {}],
  ['below the least reliability', { reliability: 0.89 }, {}],
  ['too little disk', { diskGb: 19 }, {}],
  ['another GPU type', {}, { gpuNames: ['H100'] }],
  ['outside the allowed regions', {}, { allowRegions: ['us-east'] }],
  ['in a denied region', {}, { denyRegions: ['eu-west'] }],
  [undefined, { priceMicroUsdPerHour: 1_000_000, reliability: 0.9, diskGb: 20 }, {}],
  [undefined, {}, { gpuNames: ['RTX 4090'], allowRegions: ['eu-west'], denyRegions: ['us-east'] }],
] as const)('the objection is: %s', (expected, offer, rules) => {
  expect(offerObjection(someOffer(offer), { ...policy, ...structuredClone(rules) } as typeof policy)).toBe(expected);
});

test('the ranking holds all acceptable offers and no other, the cheapest in expectation first', () => {
  fc.assert(
    fc.property(fc.array(anyOffer, { maxLength: 30 }), (some) => {
      const offers = some.map((over) => someOffer(over));
      const ranked = rankOffers(offers, policy);
      expect(new Set(ranked)).toEqual(new Set(offers.filter((offer) => offerObjection(offer, policy) === undefined)));
      const scores = ranked.map(({ priceMicroUsdPerHour, reliability }) => priceMicroUsdPerHour * (2 - reliability));
      expect(scores).toEqual(scores.toSorted((a, b) => a - b));
      expect(rankOffers(offers.toReversed(), policy)).toEqual(ranked);
    }),
  );
});

test('a more reliable offer wins at the same price, and a less reliable one only when it is enough cheaper', () => {
  const steady = someOffer({ offerId: 'steady', priceMicroUsdPerHour: 300_000, reliability: 1 });
  const shaky = someOffer({ offerId: 'shaky', priceMicroUsdPerHour: 300_000, reliability: 0.9 });
  expect(rankOffers([shaky, steady], policy)[0]).toBe(steady);
  const cheap = { ...shaky, priceMicroUsdPerHour: 270_000 };
  expect(rankOffers([steady, cheap], policy)[0]).toBe(cheap);
});

test('a provider that sends nonsense is refused at the edge', () => {
  expect(offerSchema.safeParse(someOffer({ reliability: 1.1 })).success).toBe(false);
  expect(offerSchema.safeParse(someOffer({ priceMicroUsdPerHour: -1 })).success).toBe(false);
  expect(offerSchema.safeParse(someOffer({ priceMicroUsdPerHour: 0.5 })).success).toBe(false);
});

test('ids look as they should and do not repeat', () => {
  const nouns = ['workspace', 'instance', 'snapshot', 'operation', 'command'] as const;
  const ids = Array.from({ length: 5_000 }, (_, index) => newId(nouns[index % 5] ?? 'command'));
  for (const id of ids) expect(id).toMatch(ID_PATTERN);
  expect(new Set(ids).size).toBe(ids.length);
  expect(new Set(ids.map((id) => id.slice(0, 3)))).toEqual(new Set(['ws_', 'in_', 'sn_', 'op_', 'cm_']));
  for (const bad of ['in_', 'xx_00000000000000000000', 'in_0000000000000000000i', `${ids[0]}0`]) {
    expect(bad).not.toMatch(ID_PATTERN);
  }
});

test('money is exact in micro-dollars and readable in dollars', () => {
  expect(microUsd(0.1) + microUsd(0.2)).toBe(microUsd(0.3));
  expect(formatMicroUsd(31_200)).toBe('$0.0312');
  expect(formatMicroUsd(12_345_678)).toBe('$12.35');
  expect(formatMicroUsd(0)).toBe('$0.0000');
  expect(formatMicroUsd(-2_500_000)).toBe('$-2.50');
});

test('a cost is never less than the bill, never negative, and grows with the time', () => {
  expect(costMicroUsd(360_000, 3_600_000)).toBe(360_000);
  expect(costMicroUsd(360_000, 1)).toBe(1);
  expect(costMicroUsd(360_000, -5)).toBe(0);
  fc.assert(
    fc.property(fc.nat(5_000_000), fc.nat(100_000_000), fc.nat(100_000_000), (price, oneMs, otherMs) => {
      const [shorter, longer] = [Math.min(oneMs, otherMs), Math.max(oneMs, otherMs)];
      expect(costMicroUsd(price, longer)).toBeGreaterThanOrEqual(costMicroUsd(price, shorter));
      expect(costMicroUsd(price, longer)).toBeGreaterThanOrEqual((price * longer) / 3_600_000);
      expect(Number.isInteger(costMicroUsd(price, longer))).toBe(true);
    }),
  );
});
