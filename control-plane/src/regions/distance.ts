/** A point on Earth, degrees; north and east are positive. */
export interface Coordinates {
  readonly lat: number;
  readonly lon: number;
}

/** Mean radius (IUGG). */
const EARTH_RADIUS_KM = 6_371;

/** Equipment at both ends, ms. */
const RTT_BASE_MS = 3;
/** Light in fibre needs 0.01 ms per km there and back; real routes are about 1.6 times longer than the great circle. */
const RTT_MS_PER_KM = 0.016;

/** Great-circle distance by the haversine formula, km. Pure, symmetric. */
export function distanceKm(a: Coordinates, b: Coordinates): number {
  const sinLat = Math.sin(radians(b.lat - a.lat) / 2);
  const sinLon = Math.sin(radians(b.lon - a.lon) / 2);
  const chord = sinLat ** 2 + Math.cos(radians(a.lat)) * Math.cos(radians(b.lat)) * sinLon ** 2;
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(chord)));
}

/** The round trip to plan with over a distance, ms: a rule of thumb until somebody measures. Pure. */
export function plannedRttMs(km: number): number {
  return RTT_BASE_MS + RTT_MS_PER_KM * km;
}

function radians(degrees: number): number {
  return (degrees * Math.PI) / 180;
}
