import { z } from 'zod';

const count = z.coerce.number().min(0).catch(0);
const money = z.coerce.number().min(0);

const hostNodeSchema = z.object({
  id: z.string().min(1),
  uptime_percentage: z.coerce.number().min(0).max(100).catch(0),
  available_resources: z.object({
    gpus: z.array(z.object({ v0Name: z.string().min(1), availableCount: count, price_per_hr: money })).catch([]),
    vcpu_count: count,
    ram_gb: count,
    storage_gb: count,
    max_vcpus_per_gpu: count,
    max_ram_per_gpu: count,
    available_ports: z.array(z.int().min(1).max(65_535)).catch([]),
  }),
  pricing: z.object({ per_vcpu_hr: money, per_gb_ram_hr: money, per_gb_storage_hr: money }),
  location: z.object({
    city: z.string().catch(''),
    stateprovince: z.string().catch(''),
    country: z.string().catch(''),
  }),
});
/** A host and what it has left, in TensorDock's own words. */
export type HostNode = Readonly<z.infer<typeof hostNodeSchema>>;

const instanceSchema = z.object({
  id: z.string().min(1),
  name: z.string().catch(''),
  status: z.string().catch(''),
  ipAddress: z.string().min(1).nullish().catch(null),
  portForwards: z
    .array(z.object({ internal_port: z.coerce.number(), external_port: z.coerce.number() }))
    .nullish()
    .catch(null),
});
/** A machine of the account. */
export type TensorDockInstance = Readonly<z.infer<typeof instanceSchema>>;

/** An error, which may come with HTTP status 200; null when the reply is none. Pure. */
export function errorIn(reply: unknown): string | null {
  const parsed = z.object({ error: z.unknown().optional(), status: z.unknown().optional() }).safeParse(reply);
  if (!parsed.success) return null;
  const { error, status } = parsed.data;
  if (typeof error === 'string' && error !== '') return error;
  if (error !== undefined && error !== null && error !== false) return JSON.stringify(error);
  return typeof status === 'number' && status >= 400 ? `status ${status}` : null;
}

/** Hosts come wrapped in `data`, wrapped in `hostnodes`, or both. Those that make no sense are left out. Pure. */
export function readHostNodes(reply: unknown): readonly HostNode[] {
  return readEach(hostNodeSchema, listIn(reply, 'hostnodes'));
}

/** One host; null when the reply holds none. Pure. */
export function readHostNode(reply: unknown): HostNode | null {
  const inner = unwrapped(reply);
  const node = isObject(inner) && 'hostnode' in inner ? inner['hostnode'] : inner;
  return readEach(hostNodeSchema, [flat(node)])[0] ?? null;
}

/**
 * Machines come as `data.instances` or as `data` itself, their fields at the top or in `attributes`. Pure.
 * @returns null when the reply is no list, or one of its machines has no id: a list that is cut would hide orphans
 */
export function readInstances(reply: unknown): readonly TensorDockInstance[] | null {
  const list = listIn(reply, 'instances');
  if (list === null) return null;
  const read = readEach(instanceSchema, list);
  return read.length === list.length ? read : null;
}

/** One machine; null when the reply holds none. Pure. */
export function readInstance(reply: unknown): TensorDockInstance | null {
  return readEach(instanceSchema, [flat(unwrapped(reply))])[0] ?? null;
}

function readEach<Schema extends z.ZodType>(schema: Schema, items: readonly unknown[] | null): z.infer<Schema>[] {
  return (items ?? []).flatMap((item) => {
    const parsed = schema.safeParse(flat(item));
    return parsed.success ? [parsed.data] : [];
  });
}

function listIn(reply: unknown, name: string): readonly unknown[] | null {
  const inner = unwrapped(reply);
  if (Array.isArray(inner)) return inner;
  const list = isObject(inner) ? inner[name] : undefined;
  return Array.isArray(list) ? list : null;
}

function unwrapped(reply: unknown): unknown {
  return isObject(reply) && 'data' in reply ? reply['data'] : reply;
}

function flat(item: unknown): unknown {
  return isObject(item) && isObject(item['attributes']) ? { ...item, ...item['attributes'] } : item;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
