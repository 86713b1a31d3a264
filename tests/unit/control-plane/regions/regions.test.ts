import { distanceKm, plannedRttMs, type Coordinates } from '@dumont/control-plane/regions/distance.ts';
import { GCP_REGIONS, gcpRegionOf } from '@dumont/control-plane/regions/gcp-regions.ts';
import { countryOfIp } from '@dumont/control-plane/regions/ip-country.ts';
import { locate, placeOfCountry } from '@dumont/control-plane/regions/locate.ts';
import { nearestRegions, rankNear } from '@dumont/control-plane/regions/near.ts';
import { must } from '@dumont/shared/util/assert.ts';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { someOffer } from '../../../world/rows.ts';

const point = fc.record({
  lat: fc.double({ min: -90, max: 90, noNaN: true }),
  lon: fc.double({ min: -180, max: 180, noNaN: true }),
});

/** Another way to the same number: the angle between two vectors. */
function angleKm(a: Coordinates, b: Coordinates): number {
  const vector = ({ lat, lon }: Coordinates) => {
    const [phi, lambda] = [(lat * Math.PI) / 180, (lon * Math.PI) / 180];
    return [Math.cos(phi) * Math.cos(lambda), Math.cos(phi) * Math.sin(lambda), Math.sin(phi)] as const;
  };
  const [p, q] = [vector(a), vector(b)];
  return 6_371 * Math.acos(Math.max(-1, Math.min(1, p[0] * q[0] + p[1] * q[1] + p[2] * q[2])));
}

const nearestTo = (text: string) => {
  const { coordinates } = must(locate(text), `${text} is a place`);
  return must(nearestRegions(coordinates)[0], 'there are regions').region.name;
};

describe('distances', () => {
  test('are the angle between two places times the radius, the same both ways, and none to oneself', () => {
    fc.assert(
      fc.property(point, point, (a, b) => {
        // The arc cosine is good to some metres only where the angle is small.
        expect(Math.abs(distanceKm(a, b) - angleKm(a, b))).toBeLessThan(0.5);
        expect(distanceKm(a, b)).toBeCloseTo(distanceKm(b, a), 6);
        expect(distanceKm(a, a)).toBe(0);
      }),
    );
  });

  test.each([
    ['europe-west3', 'europe-west2', 640],
    ['us-east4', 'us-west1', 3_600],
    ['australia-southeast1', 'asia-southeast1', 6_300],
  ])('%s is from %s about %d km', (from, to, km) => {
    const at = (name: string) => must(gcpRegionOf(name), name).coordinates;
    expect(Math.abs(distanceKm(at(from), at(to)) / km - 1)).toBeLessThan(0.05);
  });

  test('a longer way never takes less time', () => {
    expect(plannedRttMs(0)).toBe(3);
    expect(plannedRttMs(640)).toBeCloseTo(13.24);
  });
});

describe('the nearest region', () => {
  test('is nearer than every other, and none is left out', () => {
    fc.assert(
      fc.property(point, (from) => {
        const ranked = nearestRegions(from);
        const least = Math.min(...GCP_REGIONS.map(({ coordinates }) => angleKm(from, coordinates)));
        expect(Math.abs(must(ranked[0], 'some').km - least)).toBeLessThan(0.5);
        expect(ranked.map(({ km }) => km)).toEqual(ranked.map(({ km }) => km).toSorted((a, b) => a - b));
        expect(new Set(ranked.map(({ region }) => region.name)).size).toBe(GCP_REGIONS.length);
      }),
    );
  });

  test.each([
    ['Texas, US', 'us-south1'],
    ['California, US', 'us-west2'],
    ['Chubbuck, Idaho, United States', 'us-west3'],
    ['Manassas, Virginia, United States', 'us-east4'],
    ['Quebec, CA', 'northamerica-northeast1'],
    ['Toronto, Ontario, Canada', 'northamerica-northeast2'],
    ['Frankfurt, Hesse, Germany', 'europe-west3'],
    ['Stockholm, Stockholm, Sweden', 'europe-north2'],
    ['São Paulo, São Paulo, Brazil', 'southamerica-east1'],
    ['Sweden, SE', 'europe-north2'],
    ['JP', 'asia-northeast1'],
    ['czechia, cz', 'europe-west10'],
    ['us-west4-a', 'us-west4'],
    ['eu-west', 'europe-west2'],
    ['us-east-1', 'us-east4'],
    ['Texas', 'us-south1'],
  ])('of %s is %s', (text, region) => {
    expect(nearestTo(text)).toBe(region);
  });
});

describe('a place', () => {
  test('of a state is not its namesake: Georgia is a country unless the US follow', () => {
    expect(locate('Georgia, US')).toMatchObject({ country: 'US', precision: 'state' });
    expect(locate('Georgia')).toMatchObject({ country: 'GE', precision: 'country' });
    expect(locate('CA')).toMatchObject({ country: 'CA', precision: 'country' });
    expect(locate('CA, US')).toMatchObject({ country: 'US', precision: 'state' });
  });

  test('of words that say nothing is not made up', () => {
    for (const text of ['', ',', 'own', 'Atlantis', 'Atlantis, XX', 'us-moon9-a', '__proto__', 'constructor']) {
      expect(locate(text)).toBeUndefined();
    }
  });

  test('never throws, whatever a provider writes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        locate(text);
      }),
    );
  });

  test('of a country is known for every region, and near it', () => {
    for (const { country, coordinates, name } of GCP_REGIONS) {
      const place = must(placeOfCountry(country), `${country} is in the table`);
      expect(distanceKm(place.coordinates, coordinates), name).toBeLessThan(country === 'CA' ? 600 : 4_000);
    }
  });
});

describe('an address', () => {
  test.each([
    ['213.133.98.98', 'DE'],
    ['200.147.3.157', 'BR'],
    ['2a01:4f8::1', 'DE'],
  ])('%s is registered in %s', async (address, country) => {
    expect(await countryOfIp(address)).toBe(country);
  });

  test('that nobody registered, or that is none, has no country', async () => {
    for (const address of ['127.0.0.1', '10.0.0.1', '::1', 'machine.example', '']) {
      expect(await countryOfIp(address)).toBeNull();
    }
  });
});

describe('offers for a standby', () => {
  const offer = (region: string, priceMicroUsdPerHour: number) =>
    someOffer({ offerId: region, region, priceMicroUsdPerHour, reliability: 0.95 });

  test('nearer ones come first at the same price, and a much cheaper one before a near one', () => {
    const frankfurt = locate('europe-west3');
    const regions = (offers: readonly ReturnType<typeof offer>[]) =>
      rankNear(offers, frankfurt).map(({ region }) => region);
    expect(regions([offer('us-west4-a', 20), offer('europe-west6-a', 20), offer('europe-west2-a', 20)])).toEqual([
      'europe-west6-a',
      'europe-west2-a',
      'us-west4-a',
    ]);
    expect(regions([offer('europe-west3-a', 30_000), offer('europe-west10-a', 20_000)])[0]).toBe('europe-west10-a');
    expect(regions([offer('europe-west3-a', 20_000), offer('us-west4-a', 15_000)])[0]).toBe('europe-west3-a');
  });

  test('keep their order where nobody knows where the primary is', () => {
    const offers = [offer('us-west4-a', 3), offer('europe-west3-a', 2)];
    expect(rankNear(offers, undefined)).toEqual(offers);
  });

  test('of an unknown place rank as if a continent away', () => {
    const ranked = rankNear(
      [offer('Atlantis', 20), offer('asia-east1-a', 20), offer('europe-west4-a', 20)],
      locate('DE'),
    );
    expect(ranked.map(({ region }) => region)).toEqual(['europe-west4-a', 'Atlantis', 'asia-east1-a']);
  });
});
