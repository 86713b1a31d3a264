import { drawBootMs, LOCAL_MARKET, OFFER_ID_PATTERN } from '@dumont/control-plane/providers/local/market.ts';
import { rankOffers, rankStandbyOffers } from '@dumont/shared/model/offer.ts';
import { offerPolicySchema, workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';

test('the market has distinct hosts in several regions, most of them good enough for the default policy', () => {
  const offers = LOCAL_MARKET.map((listing) => listing.offer);
  expect(new Set(offers.map((offer) => offer.machineId)).size).toBe(offers.length);
  expect(new Set(offers.map((offer) => offer.region)).size).toBe(5);
  expect(offers.every((offer) => OFFER_ID_PATTERN.test(offer.offerId))).toBe(true);
  expect(rankOffers(offers, offerPolicySchema.parse({})).length).toBeGreaterThanOrEqual(offers.length - 5);
});

test('a standby finds cheap machines without a GPU, which no workload is given', () => {
  const offers = LOCAL_MARKET.map((listing) => listing.offer);
  const standbys = rankStandbyOffers(offers, workspacePolicySchema.parse({}));
  expect(standbys.length).toBeGreaterThanOrEqual(3);
  expect(standbys.every(({ gpuCount }) => gpuCount === 0)).toBe(true);
  const given = rankOffers(offers, offerPolicySchema.parse({}));
  expect(given.every(({ gpuCount }) => gpuCount > 0)).toBe(true);
});

test('boot times vary by 15 % around the typical one and scale', () => {
  const random = seededRandom(1);
  for (const listing of LOCAL_MARKET) {
    const bootMs = drawBootMs(listing, 1, random);
    expect(Math.abs(bootMs / listing.bootMs - 1)).toBeLessThanOrEqual(0.151);
    expect(drawBootMs(listing, 0, random)).toBe(0);
  }
});
