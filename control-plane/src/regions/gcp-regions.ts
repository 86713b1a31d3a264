import type { Coordinates } from './distance.ts';

/** A region of Google Compute Engine. */
export interface GcpRegion {
  readonly name: string;
  readonly city: string;
  /** ISO 3166-1 alpha-2. */
  readonly country: string;
  /** The city's, rounded; the data centre may be 20 km off. */
  readonly coordinates: Coordinates;
  /** An e2-medium on Spot, micro-dollars per hour; null where none is sold. */
  readonly spotMicroUsdPerHour: number | null;
  readonly zones: readonly string[];
}

/** Name, city, country, latitude, longitude, price; letters of the zones where they are not a, b and c. */
type Row = readonly [string, string, string, number, number, number | null, (readonly string[])?];

/** Prices are the public list of 2026-07-30. */
const ROWS: readonly Row[] = [
  ['africa-south1', 'Johannesburg', 'ZA', -26.2, 28.05, 11_432],
  ['asia-east1', 'Changhua', 'TW', 24.05, 120.52, 20_276],
  ['asia-east2', 'Hong Kong', 'HK', 22.32, 114.17, 9_708],
  ['asia-northeast1', 'Tokyo', 'JP', 35.68, 139.69, 25_792],
  ['asia-northeast2', 'Osaka', 'JP', 34.69, 135.5, 11_270],
  ['asia-northeast3', 'Seoul', 'KR', 37.57, 126.98, 15_382],
  ['asia-south1', 'Mumbai', 'IN', 19.08, 72.88, 24_144],
  ['asia-south2', 'Delhi', 'IN', 28.61, 77.21, 17_268],
  ['asia-southeast1', 'Singapore', 'SG', 1.35, 103.82, 21_582],
  ['asia-southeast2', 'Jakarta', 'ID', -6.21, 106.85, 9_478],
  ['asia-southeast3', 'Bangkok', 'TH', 13.76, 100.5, null],
  ['australia-southeast1', 'Sydney', 'AU', -33.87, 151.21, 22_162],
  ['australia-southeast2', 'Melbourne', 'AU', -37.81, 144.96, 20_216],
  ['europe-central2', 'Warsaw', 'PL', 52.23, 21.01, 11_630],
  ['europe-north1', 'Hamina', 'FI', 60.57, 27.19, 9_814],
  ['europe-north2', 'Stockholm', 'SE', 59.33, 18.07, 8_636],
  ['europe-southwest1', 'Madrid', 'ES', 40.42, -3.7, 20_644],
  ['europe-west1', 'St. Ghislain', 'BE', 50.45, 3.82, 17_852, ['b', 'c', 'd']],
  ['europe-west10', 'Berlin', 'DE', 52.52, 13.4, 6_940],
  ['europe-west12', 'Turin', 'IT', 45.07, 7.69, 10_890],
  ['europe-west2', 'London', 'GB', 51.51, -0.13, 13_686],
  ['europe-west3', 'Frankfurt', 'DE', 50.11, 8.68, 20_966],
  ['europe-west4', 'Eemshaven', 'NL', 53.44, 6.84, 17_632],
  ['europe-west6', 'Zurich', 'CH', 47.38, 8.54, 17_250],
  ['europe-west8', 'Milan', 'IT', 45.46, 9.19, 17_650],
  ['europe-west9', 'Paris', 'FR', 48.86, 2.35, 19_200],
  ['me-central1', 'Doha', 'QA', 25.29, 51.53, 15_332],
  ['me-central2', 'Dammam', 'SA', 26.42, 50.09, 27_868],
  ['me-west1', 'Tel Aviv', 'IL', 32.09, 34.78, 18_206],
  ['northamerica-northeast1', 'Montreal', 'CA', 45.5, -73.57, 10_968],
  ['northamerica-northeast2', 'Toronto', 'CA', 43.65, -79.38, 7_054],
  ['northamerica-south1', 'Queretaro', 'MX', 20.59, -100.39, 13_194],
  ['southamerica-east1', 'São Paulo', 'BR', -23.53, -46.79, 9_722],
  ['southamerica-west1', 'Santiago', 'CL', -33.45, -70.67, 16_588],
  ['us-central1', 'Council Bluffs', 'US', 41.26, -95.86, 20_106, ['a', 'b', 'c', 'f']],
  ['us-east1', 'Moncks Corner', 'US', 33.2, -80.01, 20_106, ['b', 'c', 'd']],
  ['us-east4', 'Ashburn', 'US', 39.04, -77.49, 20_690],
  ['us-east5', 'Columbus', 'US', 39.96, -83, 11_626],
  ['us-south1', 'Dallas', 'US', 32.78, -96.8, 12_738],
  ['us-west1', 'The Dalles', 'US', 45.6, -121.18, 20_106],
  ['us-west2', 'Los Angeles', 'US', 34.05, -118.24, 12_412],
  ['us-west3', 'Salt Lake City', 'US', 40.76, -111.89, 10_596],
  ['us-west4', 'Las Vegas', 'US', 36.17, -115.14, 4_544],
];

/**
 * Every region, by name. Google changes Spot prices every two weeks or so by 5 to 10 %, so those here rank offers and
 * estimate a bill, and are not the bill.
 */
export const GCP_REGIONS: readonly GcpRegion[] = ROWS.map(
  ([name, city, country, lat, lon, spotMicroUsdPerHour, letters = ['a', 'b', 'c']]) => ({
    name,
    city,
    country,
    coordinates: { lat, lon },
    spotMicroUsdPerHour,
    zones: letters.map((letter) => `${name}-${letter}`),
  }),
);

const REGION_BY_NAME: ReadonlyMap<string, GcpRegion> = new Map(GCP_REGIONS.map((region) => [region.name, region]));

/** The region of a zone (`us-west4-a`) or of its own name; undefined for any other word. */
export function gcpRegionOf(name: string): GcpRegion | undefined {
  return REGION_BY_NAME.get(name) ?? REGION_BY_NAME.get(name.replace(/-[a-z]$/, ''));
}
