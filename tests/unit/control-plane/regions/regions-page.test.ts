import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GCP_REGIONS } from '@dumont/control-plane/regions/gcp-regions.ts';
import { expect, test } from 'vitest';

test('the page of regions has the table of the code, line by line', async () => {
  const page = await readFile(join(import.meta.dirname, '../../../../control-plane/docs/REGIONS.md'), 'utf8');
  const lines = GCP_REGIONS.map(({ name, city, country, coordinates, spotMicroUsdPerHour, zones }) => {
    const price = spotMicroUsdPerHour === null ? '–' : `$${(spotMicroUsdPerHour / 1_000_000).toFixed(4)}`;
    const letters = zones.map((zone) => zone.at(-1)).join(' ');
    return `| \`${name}\` | ${city}, ${country} | ${coordinates.lat} | ${coordinates.lon} | ${price} | ${letters} |`;
  });
  const table = page.split('\n').filter((line) => /^\| `[a-z]+-[a-z]+\d+` \|/.test(line));
  expect(table).toEqual(lines);
});
