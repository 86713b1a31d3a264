import type { RegionView } from '@dumont/shared/api/region-endpoints.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { plannedRttMs } from '../../regions/distance.ts';
import { GCP_REGIONS, type GcpRegion } from '../../regions/gcp-regions.ts';
import { countryOfIp } from '../../regions/ip-country.ts';
import { locate, placeOfCountry, type Place } from '../../regions/locate.ts';
import { nearestRegions } from '../../regions/near.ts';
import type { Handlers } from '../handler.ts';

export function regionHandlers(): Pick<Handlers, 'listRegions'> {
  return {
    listRegions: async ({ query: { near } }) => {
      if (near === undefined) return { near: null, items: GCP_REGIONS.map((region) => regionView(region, null)) };
      const { coordinates, country, precision } = await understood(near);
      return {
        near: { ...coordinates, country, precision },
        items: nearestRegions(coordinates).map(({ region, km }) => regionView(region, km)),
      };
    },
  };
}

async function understood(near: string): Promise<Place> {
  const country = await countryOfIp(near);
  const place = country === null ? locate(near) : placeOfCountry(country);
  if (place !== undefined) return place;
  throw new DumontError('NOT_FOUND', `nobody here knows where ${near} is`, {
    field: 'near',
    hint: 'Give a country, a state and country such as "Texas, US", a zone of Google, or an IP address.',
  });
}

function regionView(region: GcpRegion, km: number | null): RegionView {
  const { name, city, country, coordinates, zones, spotMicroUsdPerHour } = region;
  return {
    name,
    city,
    country,
    ...coordinates,
    zones: [...zones],
    spotMicroUsdPerHour,
    km: km === null ? null : Math.round(km),
    plannedRttMs: km === null ? null : Math.round(plannedRttMs(km)),
  };
}
