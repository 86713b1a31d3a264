import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { isIP } from 'node:net';
import { Reader } from 'mmdb-lib';
import { z } from 'zod';

const require = createRequire(import.meta.url);
const TABLES = {
  4: () => require.resolve('@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country-ipv4.mmdb'),
  6: () => require.resolve('@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country-ipv6.mmdb'),
} as const;

/** One of both shapes that such tables have. */
const entrySchema = z.union([
  z.object({ country_code: z.string() }).transform(({ country_code: code }) => code),
  z.object({ country: z.object({ iso_code: z.string() }) }).transform(({ country }) => country.iso_code),
]);

/**
 * The country an address is registered in, ISO 3166-1 alpha-2; null for one that no registry has given out, and for what
 * is no address. The table is read for each question, a few MB: questions are rare, and the answer a last resort, because
 * a hoster's addresses move between its countries.
 */
export async function countryOfIp(address: string): Promise<string | null> {
  const family = isIP(address);
  if (family === 0) return null;
  const table = new Reader(await readFile(TABLES[family === 4 ? 4 : 6]()));
  const entry = entrySchema.safeParse(table.get(address));
  return entry.success ? entry.data : null;
}
