import { findCity, findCountry, findState, findStateAnywhere } from './countries.ts';
import type { Coordinates } from './distance.ts';
import { gcpRegionOf } from './gcp-regions.ts';

/** Where something is, as well as one knows. */
export interface Place {
  readonly coordinates: Coordinates;
  /** ISO 3166-1 alpha-2; null for a part of a continent. */
  readonly country: string | null;
  readonly precision: 'city' | 'state' | 'country' | 'continent';
}

/** Words for parts of continents, as clouds and our own local market use them. */
const BROAD: ReadonlyMap<string, Coordinates> = new Map([
  ['us-east', { lat: 39, lon: -77.5 }],
  ['us-central', { lat: 41.3, lon: -95.9 }],
  ['us-south', { lat: 32.8, lon: -96.8 }],
  ['us-west', { lat: 37.4, lon: -121.9 }],
  ['eu-west', { lat: 53.3, lon: -6.3 }],
  ['eu-central', { lat: 50.1, lon: 8.7 }],
  ['eu-north', { lat: 59.3, lon: 18.1 }],
  ['eu-south', { lat: 45.5, lon: 9.2 }],
  ['sa-east', { lat: -23.5, lon: -46.6 }],
  ['ap-east', { lat: 22.3, lon: 114.2 }],
  ['ap-south', { lat: 19.1, lon: 72.9 }],
  ['ap-northeast', { lat: 35.7, lon: 139.7 }],
  ['ap-southeast', { lat: 1.4, lon: 103.8 }],
]);

/**
 * Reads what providers say of a machine's place: a zone or region of Google (`us-west4-a`), `city, state, country` with
 * any of the first two left out (`Texas, US`, `Frankfurt, Hesse, Germany`), or a part of a continent (`eu-west`). Names and
 * codes, any case. Undefined when nothing of it is known. Pure.
 */
export function locate(text: string): Place | undefined {
  const word = plain(text);
  const region = gcpRegionOf(word);
  if (region !== undefined) {
    return { coordinates: region.coordinates, country: region.country, precision: 'city' };
  }
  const broad = BROAD.get(word.replace(/-\d+[a-z]?$/, ''));
  if (broad !== undefined) return { coordinates: broad, country: null, precision: 'continent' };
  const parts = word.split(',').map((part) => part.trim());
  return locateWithin(parts.filter((part) => part !== ''));
}

/** A whole country, by its code. */
export function placeOfCountry(code: string): Place | undefined {
  const country = findCountry(code.toLowerCase());
  return country && { coordinates: country.coordinates, country: country.code, precision: 'country' };
}

function locateWithin(parts: readonly string[]): Place | undefined {
  const last = parts.at(-1);
  if (last === undefined) return undefined;
  const country = findCountry(last);
  if (country === undefined) {
    const state = findStateAnywhere(last);
    return state && placeIn(state.country, parts);
  }
  return placeIn(country.code, parts.slice(0, -1)) ?? placeOfCountry(country.code);
}

/** The closest of what stands before the country. */
function placeIn(country: string, parts: readonly string[]): Place | undefined {
  for (const part of parts) {
    const city = findCity(country, part);
    if (city !== undefined) return { coordinates: city, country, precision: 'city' };
  }
  for (const part of parts) {
    const state = findState(country, part);
    if (state !== undefined) return { coordinates: state.coordinates, country, precision: 'state' };
  }
  return undefined;
}

/** In small letters without accents: `São Paulo` and `Sao Paulo` are one city. */
function plain(text: string): string {
  return text.normalize('NFD').replaceAll(/\p{M}/gu, '').trim().toLowerCase();
}
