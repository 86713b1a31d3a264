import type { Coordinates } from './distance.ts';

/** A country, or a state or province of one. */
export interface Area {
  readonly code: string;
  readonly names: readonly string[];
  /** Where its people and data centres are, rather than its middle. */
  readonly coordinates: Coordinates;
}

type Row = readonly [code: string, names: string, lat: number, lon: number];

/** Code by ISO 3166-1 alpha-2, English names separated by `|`, coordinates. */
const COUNTRY_ROWS: readonly Row[] = [
  ['AE', 'united arab emirates|uae', 24.5, 54.4],
  ['AR', 'argentina', -34.6, -58.4],
  ['AT', 'austria', 48.2, 16.4],
  ['AU', 'australia', -33.9, 151.2],
  ['BE', 'belgium', 50.8, 4.4],
  ['BG', 'bulgaria', 42.7, 23.3],
  ['BR', 'brazil', -23.5, -46.6],
  ['CA', 'canada', 45.4, -75.7],
  ['CH', 'switzerland', 47.4, 8.5],
  ['CL', 'chile', -33.4, -70.7],
  ['CN', 'china', 31.2, 121.5],
  ['CO', 'colombia', 4.7, -74.1],
  ['CY', 'cyprus', 34.7, 33],
  ['CZ', 'czechia|czech republic', 50.1, 14.4],
  ['DE', 'germany', 50.1, 8.7],
  ['DK', 'denmark', 55.7, 12.6],
  ['EE', 'estonia', 59.4, 24.8],
  ['EG', 'egypt', 30, 31.2],
  ['ES', 'spain', 40.4, -3.7],
  ['FI', 'finland', 60.2, 24.9],
  ['FR', 'france', 48.9, 2.4],
  ['GB', 'united kingdom|uk|great britain|england', 51.5, -0.1],
  ['GE', 'georgia', 41.7, 44.8],
  ['GR', 'greece', 38, 23.7],
  ['HK', 'hong kong', 22.3, 114.2],
  ['HR', 'croatia', 45.8, 16],
  ['HU', 'hungary', 47.5, 19],
  ['ID', 'indonesia', -6.2, 106.8],
  ['IE', 'ireland', 53.3, -6.3],
  ['IL', 'israel', 32.1, 34.8],
  ['IN', 'india', 19.1, 72.9],
  ['IS', 'iceland', 64.1, -21.9],
  ['IT', 'italy', 45.5, 9.2],
  ['JP', 'japan', 35.7, 139.7],
  ['KR', 'south korea|korea|republic of korea', 37.6, 127],
  ['KZ', 'kazakhstan', 43.2, 76.9],
  ['LT', 'lithuania', 54.7, 25.3],
  ['LU', 'luxembourg', 49.6, 6.1],
  ['LV', 'latvia', 56.9, 24.1],
  ['MD', 'moldova', 47, 28.9],
  ['MX', 'mexico', 19.4, -99.1],
  ['MY', 'malaysia', 3.1, 101.7],
  ['NG', 'nigeria', 6.5, 3.4],
  ['NL', 'netherlands|the netherlands', 52.4, 4.9],
  ['NO', 'norway', 59.9, 10.8],
  ['NZ', 'new zealand', -36.8, 174.8],
  ['PE', 'peru', -12, -77],
  ['PH', 'philippines', 14.6, 121],
  ['PL', 'poland', 52.2, 21],
  ['PT', 'portugal', 38.7, -9.1],
  ['QA', 'qatar', 25.3, 51.5],
  ['RO', 'romania', 44.4, 26.1],
  ['RS', 'serbia', 44.8, 20.5],
  ['RU', 'russia|russian federation', 55.8, 37.6],
  ['SA', 'saudi arabia', 24.7, 46.7],
  ['SE', 'sweden', 59.3, 18.1],
  ['SG', 'singapore', 1.4, 103.8],
  ['SI', 'slovenia', 46.1, 14.5],
  ['SK', 'slovakia', 48.1, 17.1],
  ['TH', 'thailand', 13.8, 100.5],
  ['TR', 'turkey|turkiye', 41, 29],
  ['TW', 'taiwan', 25, 121.5],
  ['UA', 'ukraine', 50.5, 30.5],
  ['US', 'united states|usa|united states of america', 39.8, -98.6],
  ['VN', 'vietnam|viet nam', 21, 105.8],
  ['ZA', 'south africa', -26.2, 28],
];

/** States of the US and provinces of Canada, by postal code, where the country alone would say little. */
const US_ROWS: readonly Row[] = [
  ['AL', 'alabama', 33.5, -86.8],
  ['AK', 'alaska', 61.2, -149.9],
  ['AZ', 'arizona', 33.4, -112.1],
  ['AR', 'arkansas', 34.7, -92.3],
  ['CA', 'california', 36.8, -120],
  ['CO', 'colorado', 39.7, -105],
  ['CT', 'connecticut', 41.8, -72.7],
  ['DC', 'district of columbia', 38.9, -77],
  ['DE', 'delaware', 39.7, -75.5],
  ['FL', 'florida', 27.9, -81.5],
  ['GA', 'georgia', 33.7, -84.4],
  ['HI', 'hawaii', 21.3, -157.9],
  ['IA', 'iowa', 41.6, -93.6],
  ['ID', 'idaho', 43.6, -116.2],
  ['IL', 'illinois', 41.9, -87.6],
  ['IN', 'indiana', 39.8, -86.2],
  ['KS', 'kansas', 39, -95.7],
  ['KY', 'kentucky', 38.3, -85.8],
  ['LA', 'louisiana', 30, -90.1],
  ['MA', 'massachusetts', 42.4, -71.1],
  ['MD', 'maryland', 39.3, -76.6],
  ['ME', 'maine', 43.7, -70.3],
  ['MI', 'michigan', 42.3, -83],
  ['MN', 'minnesota', 45, -93.3],
  ['MO', 'missouri', 38.6, -92],
  ['MS', 'mississippi', 32.3, -90.2],
  ['MT', 'montana', 46.9, -112],
  ['NC', 'north carolina', 35.5, -79.5],
  ['ND', 'north dakota', 46.9, -98],
  ['NE', 'nebraska', 41.3, -96],
  ['NH', 'new hampshire', 43, -71.5],
  ['NJ', 'new jersey', 40.6, -74.4],
  ['NM', 'new mexico', 35.1, -106.6],
  ['NV', 'nevada', 37.5, -116.5],
  ['NY', 'new york', 41.5, -74],
  ['OH', 'ohio', 40, -82.9],
  ['OK', 'oklahoma', 35.5, -97.5],
  ['OR', 'oregon', 45.5, -122],
  ['PA', 'pennsylvania', 40.4, -76.9],
  ['RI', 'rhode island', 41.8, -71.4],
  ['SC', 'south carolina', 33.5, -80.5],
  ['SD', 'south dakota', 43.5, -96.7],
  ['TN', 'tennessee', 36.1, -86.8],
  ['TX', 'texas', 31.5, -97.5],
  ['UT', 'utah', 40.7, -111.9],
  ['VA', 'virginia', 38.5, -77.8],
  ['VT', 'vermont', 44.5, -73.2],
  ['WA', 'washington', 47.4, -121.5],
  ['WI', 'wisconsin', 43.1, -88.5],
  ['WV', 'west virginia', 38.3, -81.6],
  ['WY', 'wyoming', 41.1, -104.8],
];
const CANADA_ROWS: readonly Row[] = [
  ['AB', 'alberta', 52, -113.8],
  ['BC', 'british columbia', 49.3, -123.1],
  ['MB', 'manitoba', 49.9, -97.1],
  ['NB', 'new brunswick', 46, -66.6],
  ['NS', 'nova scotia', 44.6, -63.6],
  ['ON', 'ontario', 43.7, -79.4],
  ['QC', 'quebec', 45.5, -73.6],
  ['SK', 'saskatchewan', 52.1, -106.7],
];

/** Cities with many machines, `country/city`, in plain letters. */
const CITIES: ReadonlyMap<string, Coordinates> = new Map(
  (
    [
      ['US/austin', 30.3, -97.7],
      ['US/ashburn', 39, -77.5],
      ['US/atlanta', 33.7, -84.4],
      ['US/boston', 42.4, -71.1],
      ['US/chicago', 41.9, -87.6],
      ['US/chubbuck', 42.9, -112.5],
      ['US/dallas', 32.8, -96.8],
      ['US/denver', 39.7, -105],
      ['US/houston', 29.8, -95.4],
      ['US/las vegas', 36.2, -115.1],
      ['US/los angeles', 34.1, -118.2],
      ['US/manassas', 38.8, -77.5],
      ['US/miami', 25.8, -80.2],
      ['US/new york city', 40.7, -74],
      ['US/phoenix', 33.4, -112.1],
      ['US/portland', 45.5, -122.7],
      ['US/san jose', 37.3, -121.9],
      ['US/seattle', 47.6, -122.3],
      ['CA/calgary', 51, -114.1],
      ['CA/montreal', 45.5, -73.6],
      ['CA/toronto', 43.7, -79.4],
      ['CA/vancouver', 49.3, -123.1],
      ['AU/melbourne', -37.8, 145],
      ['AU/perth', -31.9, 115.9],
      ['BR/sao paulo', -23.5, -46.6],
      ['DE/berlin', 52.5, 13.4],
      ['DE/munich', 48.1, 11.6],
      ['IN/delhi', 28.6, 77.2],
      ['IN/chennai', 13.1, 80.3],
      ['IT/turin', 45.1, 7.7],
      ['JP/osaka', 34.7, 135.5],
      ['CN/beijing', 39.9, 116.4],
      ['CN/shenzhen', 22.5, 114.1],
      ['FR/marseille', 43.3, 5.4],
      ['RU/novosibirsk', 55, 82.9],
    ] as const
  ).map(([name, lat, lon]) => [name, { lat, lon }]),
);

const COUNTRIES: readonly Area[] = COUNTRY_ROWS.map(areaOf);
const STATES: Readonly<Record<string, readonly Area[]>> = { US: US_ROWS.map(areaOf), CA: CANADA_ROWS.map(areaOf) };

/** A country by its code or one of its names, plain and in small letters. */
export function findCountry(word: string): Area | undefined {
  return COUNTRIES.find((area) => isNamed(area, word));
}

/** A state or province by its code or name. */
export function findState(country: string, word: string): Area | undefined {
  return STATES[country]?.find((area) => isNamed(area, word));
}

/** The country one of whose states has this name, and the state; codes are too many things to be looked for. */
export function findStateAnywhere(name: string): { readonly country: string; readonly area: Area } | undefined {
  for (const [country, areas] of Object.entries(STATES)) {
    const area = areas.find(({ names }) => names.includes(name));
    if (area !== undefined) return { country, area };
  }
  return undefined;
}

export function findCity(country: string, name: string): Coordinates | undefined {
  return CITIES.get(`${country}/${name}`);
}

function isNamed({ code, names }: Area, word: string): boolean {
  return code.toLowerCase() === word || names.includes(word);
}

function areaOf([code, names, lat, lon]: Row): Area {
  return { code, names: names.split('|'), coordinates: { lat, lon } };
}
