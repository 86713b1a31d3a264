import { z } from 'zod';

/** The client gives unset fields as undefined or null. */
const text = z.string().nullish();

const instanceSchema = z
  .object({
    name: z.string(),
    /** A URL whose last part is the zone's name. */
    zone: z.string(),
    status: z.string(),
    statusMessage: text,
    description: text,
    labels: z.record(z.string(), z.string()).nullish(),
    tags: z.object({ items: z.array(z.string()).nullish() }).nullish(),
    lastStartTimestamp: text,
    networkInterfaces: z.array(z.object({ accessConfigs: z.array(z.object({ natIP: text })).nullish() })).nullish(),
  })
  .transform((raw) => ({
    name: raw.name,
    zone: lastPart(raw.zone),
    status: raw.status,
    statusMessage: raw.statusMessage ?? null,
    /** Where we keep the label: labels of theirs allow fewer characters. */
    description: raw.description ?? '',
    labels: raw.labels ?? {},
    tags: raw.tags?.items ?? [],
    hasStarted: Boolean(raw.lastStartTimestamp),
    externalIp: raw.networkInterfaces?.[0]?.accessConfigs?.[0]?.natIP || null,
  }));
/** One virtual machine, as much of it as we use. */
export type ComputeInstance = Readonly<z.infer<typeof instanceSchema>>;

const operationSchema = z
  .object({
    name: z.string(),
    status: z.string(),
    operationType: text,
    targetLink: text,
    error: z.object({ errors: z.array(z.object({ code: text, message: text })).nullish() }).nullish(),
  })
  .transform((raw) => ({
    name: raw.name,
    isDone: raw.status === 'DONE',
    /** The name of what it works on. */
    target: lastPart(raw.targetLink ?? ''),
    errors: (raw.error?.errors ?? []).map(({ code, message }) => ({ code: code ?? '', message: message ?? '' })),
  }));
/** Work that Compute Engine does after it has answered. */
export type ComputeOperation = Readonly<z.infer<typeof operationSchema>>;

/** @throws {z.ZodError} when the reply is none of Compute Engine's */
export function readInstance(reply: unknown): ComputeInstance {
  return instanceSchema.parse(reply);
}

/** @throws {z.ZodError} when the reply is none of Compute Engine's */
export function readOperation(reply: unknown): ComputeOperation {
  return operationSchema.parse(reply);
}

function lastPart(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}
