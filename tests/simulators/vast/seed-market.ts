import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { z } from 'zod';

const number = z.coerce.number();

/** One machine of the invented market; the names of its fields are the API's. */
const seedOfferSchema = z.object({
  n: number,
  id: number,
  machine_id: number,
  host_id: number,
  gpu_name: z.string(),
  num_gpus: number,
  gpu_ram: number,
  dph_base: number,
  min_bid: number,
  storage_cost: number,
  inet_up: number,
  inet_down: number,
  inet_up_cost: number,
  inet_down_cost: number,
  reliability2: number,
  geolocation: z.string(),
  verification: z.string(),
  hosting_type: number,
  cpu_name: z.string(),
  cpu_cores: number,
  cpu_cores_effective: number,
  cpu_ram: number,
  disk_space: number,
  disk_bw: number,
  cuda_max_good: number,
  driver_version: z.string(),
  compute_cap: number,
  dlperf: number,
  total_flops: number,
  gpu_mem_bw: number,
  direct_port_count: number,
  static_ip: number.transform((flag) => flag === 1),
  duration_days: number,
  boot_s: number,
  /** What goes wrong with it: `ok`, `outbid@600`, …; see behaviour.ts. */
  behaviour: z.string(),
});
export type SeedOffer = z.infer<typeof seedOfferSchema>;

/** The 25 machines of seed-market.csv. */
export function readSeedMarket(): readonly SeedOffer[] {
  const [header = '', ...rows] = readFileSync(join(import.meta.dirname, 'seed-market.csv'), 'utf8')
    .trim()
    .split('\n');
  const names = header.split(',');
  return rows.map((row) => {
    const cells = cellsOf(row);
    return seedOfferSchema.parse(Object.fromEntries(names.map((name, index) => [name, cells[index]])));
  });
}

/** Cells may be quoted, to hold commas; none holds a quote. */
function cellsOf(row: string): readonly string[] {
  return [...row.matchAll(/(?:^|,)(?:"([^"]*)"|([^,]*))/g)].map(([, quoted, plain]) => quoted ?? must(plain, 'a cell'));
}
