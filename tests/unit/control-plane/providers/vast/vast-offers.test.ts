import { bidFor, spotOffer } from '@dumont/control-plane/providers/vast/vast-offers.ts';
import { askSchema } from '@dumont/control-plane/providers/vast/vast-schemas.ts';
import { expect, test } from 'vitest';

const ROW = {
  id: 31514189,
  machine_id: 21519,
  host_id: 4106,
  gpu_name: 'RTX 4090',
  num_gpus: 1,
  disk_space: 1120,
  dph_base: 0.341,
  min_bid: 0.187,
  storage_cost: 0.13,
  inet_up: 781,
  inet_down: 915,
  reliability2: 0.9968,
  geolocation: 'Texas, US',
  verification: 'verified',
  rentable: true,
  rented: false,
  external: null,
  direct_port_count: 150,
  a_field_of_tomorrow: { any: 'thing' },
};
const offerOf = (changes: object) => spotOffer(askSchema.parse({ ...ROW, ...changes }), 60);

test('an offer costs our bid and the storage of the disk, in micro-dollars per hour', () => {
  expect(offerOf({})).toEqual({
    provider: 'vast',
    offerId: '31514189',
    machineId: '21519',
    gpuName: 'RTX 4090',
    gpuCount: 1,
    diskGb: 60,
    // 0.187 and a tenth, and 0.13 × 60 / 720.
    priceMicroUsdPerHour: 205_700 + 10_833,
    bidMicroUsdPerHour: 205_700,
    reliability: 0.9968,
    region: 'US',
    kind: 'spot',
    uploadMbps: 781,
    downloadMbps: 915,
  });
});

test('a bid is rounded up to a step, never below what wins', () => {
  expect(bidFor(0.187)).toBe(205_700);
  expect(bidFor(0.01401)).toBe(15_500);
});

test.each([
  ['South Korea, KR', 'KR'],
  [', CN', 'CN'],
  ['British Columbia, CA', 'CA'],
  ['SE', 'SE'],
  ['', 'unknown'],
  [null, 'unknown'],
])('the region of "%s" is %s', (geolocation, region) => {
  expect(offerOf({ geolocation })?.region).toBe(region);
});

test.each([
  ['rented', { rented: true }],
  ['not for rent', { rentable: false }],
  ['of an unverified host', { verification: 'unverified' }],
  ['short of disk', { disk_space: 59.9 }],
  ['without direct ports', { direct_port_count: -1 }],
  ['silent about its ports', { direct_port_count: null }],
])('a row that is %s is left out although the server listed it', (_what, changes) => {
  expect(offerOf(changes)).toBeUndefined();
});

test('the older name of reliability will do, and nonsense counts as none', () => {
  expect(offerOf({ reliability2: undefined, reliability: 0.95 })?.reliability).toBe(0.95);
  expect(offerOf({ reliability2: 'high', reliability: null })?.reliability).toBe(0);
});
