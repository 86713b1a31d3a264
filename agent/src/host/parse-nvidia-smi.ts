import type { GpuSample } from '@dumont/shared/protocol/heartbeat.ts';

/** The fields asked of nvidia-smi, in the order {@link parseNvidiaSmiLine} reads them. */
export const NVIDIA_SMI_QUERY = 'index,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw';

const FIELD_COUNT = NVIDIA_SMI_QUERY.split(',').length;
const MIB = 1_048_576;
const MAX_INDEX = 64;

/**
 * One line of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits` to a sample. Pure. Values the driver does not
 * have (`[N/A]`, `[Not Supported]`, `[Unknown Error]`) become null.
 * @returns null for a line that is not a sample: an empty one, or an error text of the tool
 */
export function parseNvidiaSmiLine(line: string): GpuSample | null {
  const fields = line.split(',').map((field) => field.trim());
  if (fields.length < FIELD_COUNT) return null;
  // A name may hold commas, the six other fields never do.
  const [util, memoryUsed, memoryTotal, temperature, power] = fields.slice(-5).map(parseNumber);
  const index = parseNumber(fields[0] ?? '');
  if (index === null || !Number.isInteger(index) || index < 0 || index > MAX_INDEX) return null;
  return {
    index,
    name: fields.slice(1, -5).join(', ').slice(0, 128),
    utilPct: clampPct(util ?? null),
    memoryUsedBytes: mibToBytes(memoryUsed ?? null),
    memoryTotalBytes: mibToBytes(memoryTotal ?? null),
    temperatureC: temperature ?? null,
    powerW: power ?? null,
  };
}

function parseNumber(text: string): number | null {
  return /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : null;
}

function clampPct(value: number | null): number | null {
  return value === null ? null : Math.min(100, Math.max(0, value));
}

function mibToBytes(value: number | null): number | null {
  if (value === null || value < 0) return null;
  const bytes = Math.round(value * MIB);
  return Number.isSafeInteger(bytes) ? bytes : null;
}
