import { getHeapStatistics } from 'node:v8';
import type { Random } from '@dumont/shared/util/random.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { isDumontError, type ErrorCode } from '@dumont/shared/util/errors.ts';

/** No single input may take longer, also on a busy machine; they are meant to take milliseconds. */
const MAX_INPUT_MS = 5_000;

/** How bytes from elsewhere may be refused. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(['CORRUPT', 'UNSUPPORTED', 'LIMIT']);

export interface FuzzOptions {
  readonly inputs: number;
  /** Most that reading one input may allocate outside the heap of objects. */
  readonly maxAllocatedBytes: number;
}

export interface FuzzCount {
  readonly accepted: number;
  readonly refused: number;
}

/**
 * Runs a reader on inputs 0, 1, 2 …: each must be taken or refused with an error for bad bytes, in time and within the
 * memory allowed. Throws naming the input otherwise, whose number seeds everything about it.
 */
export async function fuzz(
  { inputs, maxAllocatedBytes }: FuzzOptions,
  read: (input: number) => unknown,
): Promise<FuzzCount> {
  let [accepted, refused] = [0, 0];
  for (let input = 0; input < inputs; input += 1) {
    const begunMs = systemClock.monotonicMs();
    const beforeBytes = getHeapStatistics().external_memory;
    try {
      const result = read(input);
      if (result instanceof Promise) await result;
      accepted += 1;
    } catch (error) {
      if (!isDumontError(error) || !REFUSALS.has(error.code)) {
        throw new Error(`input ${input} ended with ${String(error)}`, { cause: error });
      }
      refused += 1;
    }
    const allocatedBytes = getHeapStatistics().external_memory - beforeBytes;
    if (allocatedBytes > maxAllocatedBytes) throw new Error(`input ${input} allocated ${allocatedBytes} bytes`);
    const tookMs = systemClock.monotonicMs() - begunMs;
    if (tookMs > MAX_INPUT_MS) throw new Error(`input ${input} took ${tookMs} ms`);
  }
  return { accepted, refused };
}

/** Numbers that lengths, counts and offsets go wrong at. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 0x40_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** A copy with one to four changes: bits, bytes, 32-bit numbers, a cut, a part twice or left out. */
export function mutate(bytes: Uint8Array, random: Random): Buffer {
  let changed: Buffer = Buffer.from(bytes);
  const below = (bound: number) => Math.floor(random.next() * bound);
  for (let change = 0, changes = 1 + below(4); change < changes && changed.length > 0; change += 1) {
    // What matters lies at the ends: headers and trailers.
    const near = random.next() < 0.6 ? below(Math.min(64, changed.length)) : below(changed.length);
    const at = random.next() < 0.3 ? changed.length - 1 - near : near;
    switch (below(7)) {
      case 0:
        changed[at] = (changed[at] ?? 0) ^ (1 << below(8));
        break;
      case 1:
        changed[at] = below(256);
        break;
      case 2:
        if (at + 4 <= changed.length) changed.writeUInt32LE(EDGES[below(EDGES.length)] ?? 0, at);
        break;
      case 3:
        if (at + 8 <= changed.length) changed.writeBigUInt64LE(BigInt(Math.floor(2 ** (random.next() * 63.9))), at);
        break;
      case 4:
        changed = changed.subarray(0, at);
        break;
      case 5:
        changed = Buffer.concat([changed.subarray(0, at), changed.subarray(at + 1 + below(16))]);
        break;
      default:
        changed = Buffer.concat([changed.subarray(0, at), changed.subarray(Math.max(0, at - below(32)))]);
    }
  }
  return changed;
}

/** Uniform bytes, up to so many. */
export function randomBytes(maxLength: number, random: Random): Buffer {
  return Buffer.from(
    Array.from({ length: Math.floor(random.next() * maxLength) }, () => Math.floor(random.next() * 256)),
  );
}

const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1,
  0.5,
  2 ** 31,
  2 ** 53,
  1e300,
  '',
  '..',
  '../x',
  '/',
  '/etc/passwd',
  'a/../../b',
  '\0',
  '\uD800',
  'x'.repeat(5_000),
  [],
  {},
  [[]],
  [-1],
  'file',
  'dir',
  'symlink',
  'hardlink',
  '__proto__',
  '0'.repeat(64),
  '0'.repeat(32),
];

/**
 * A copy of a JSON value with one to three changes anywhere in it: a value replaced by an odd one or by another of the same
 * document, a key or element removed, doubled or moved.
 */
export function mutateJson(value: unknown, random: Random): unknown {
  const copy = { root: structuredClone(value) };
  const below = (bound: number) => Math.floor(random.next() * bound);
  for (let change = 0, changes = 1 + below(3); change < changes; change += 1) {
    const places = placesIn(copy);
    const place = places[below(places.length)];
    const other = places[below(places.length)];
    if (place === undefined || other === undefined) continue;
    const donor = structuredClone(other.holder[other.key]);
    switch (below(6)) {
      case 0:
      case 1:
        place.holder[place.key] = structuredClone(ODD_VALUES[below(ODD_VALUES.length)]);
        break;
      case 2:
        place.holder[place.key] = donor;
        break;
      case 3:
        if (Array.isArray(place.holder)) place.holder.splice(Number(place.key), 1);
        else if (place.key !== 'root') delete place.holder[place.key];
        break;
      case 4:
        if (Array.isArray(place.holder)) place.holder.splice(Number(place.key), 0, donor);
        else place.holder[`${place.key}x`] = donor;
        break;
      default:
        if (typeof place.holder[place.key] === 'number') place.holder[place.key] = EDGES[below(EDGES.length)];
    }
  }
  return copy.root;
}

interface Place {
  readonly holder: Record<string, unknown>;
  readonly key: string;
}

function placesIn(root: object): readonly Place[] {
  const places: Place[] = [];
  const holders: object[] = [root];
  for (let holder = holders.pop(); holder !== undefined; holder = holders.pop()) {
    for (const [key, value] of Object.entries(holder)) {
      places.push({ holder: holder as Record<string, unknown>, key });
      if (typeof value === 'object' && value !== null) holders.push(value as object);
    }
  }
  return places;
}
