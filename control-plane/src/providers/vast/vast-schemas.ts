import { z } from 'zod';

/** Absent, null and nonsense alike are "not known": one odd field must not hide a machine that costs money. */
const text = z.string().nullish().catch(null);
const number = z.number().nullish().catch(null);
const flag = z.boolean().nullish().catch(null);

/** One row of a search. Fields that an offer cannot do without are required; a row without them is left out. */
export const askSchema = z.object({
  id: z.int(),
  machine_id: z.int(),
  host_id: number,
  gpu_name: z.string().min(1),
  num_gpus: z.int().min(0),
  disk_space: z.number(),
  dph_base: z.number().min(0),
  min_bid: z.number().min(0),
  /** Dollars per GB and month. */
  storage_cost: z.number().min(0),
  inet_up: number,
  inet_down: number,
  reliability2: number,
  reliability: number,
  geolocation: text,
  verification: text,
  rentable: flag,
  rented: flag,
  direct_port_count: number,
});
export type VastAsk = z.infer<typeof askSchema>;

export const searchAnswerSchema = z.object({ offers: z.array(z.unknown()) });

const portsSchema = z
  .record(z.string(), z.array(z.object({ HostPort: z.union([z.string(), z.number()]) })).nullable())
  .nullish()
  .catch(null);

/** One instance, as shown and as listed. */
export const instanceSchema = z.object({
  id: z.int(),
  label: text,
  machine_id: number,
  actual_status: text,
  intended_status: text,
  cur_state: text,
  next_state: text,
  status_msg: text,
  is_bid: flag,
  public_ipaddr: text,
  ssh_host: text,
  ssh_port: number,
  ports: portsSchema,
});
export type VastInstance = z.infer<typeof instanceSchema>;

/** The plural key holds one instance, or null for one that does not exist. */
export const showAnswerSchema = z.object({ instances: instanceSchema.nullable() });

export const listAnswerSchema = z.object({
  instances: z.array(instanceSchema),
  next_token: z.string().nullish(),
});

/** What every answer may hold besides its own; refusals come with any of these in any combination. */
export const verdictSchema = z.object({
  success: z.boolean().nullish().catch(null),
  error: text,
  msg: text,
  message: text,
  detail: text,
  new_contract: z.int().nullish().catch(null),
});
export type VastVerdict = z.infer<typeof verdictSchema>;

export const accountSchema = z.object({
  id: z.int(),
  /** Prepaid money in dollars: at zero everything stops. */
  credit: number,
  balance: number,
});
