import { compressSync } from 'lz4-napi';
import type { LaneOrigin, PlanesSegment, PlanesShape } from '@dumont/shared/format/planes.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { PlanesKernel } from './planes-kernel.ts';

/** How a chunk is to be encoded. A wrong choice costs space or time, never data. */
export type CodecChoice =
  | { readonly kind: 'stored' }
  | { readonly kind: 'lz4' }
  | {
      readonly kind: 'planes';
      readonly shape: PlanesShape;
      /** LZ4 is likely to make this segment smaller. */
      readonly isCompressible: (segment: PlanesSegment) => boolean;
    };

/** Smaller chunks go to LZ4 at once: a sample would cost as much as the whole. */
const MIN_SAMPLED_BYTES = 16 * 1024;
const SAMPLE_WINDOWS = 3;
const WINDOW_BYTES = 16 * 1024;

/** LZ4 must save this part of the bytes or the chunk is stored: less is not worth unpacking. */
const MIN_LZ4_GAIN = 0.02;
/** Planes must be this much smaller than the better of stored and LZ4: they cost more to unpack. */
const MIN_PLANES_GAIN = 0.03;
/** A segment whose estimate saves less than this is stored untried. */
const MIN_SEGMENT_GAIN = 0.05;
/** A lane is tried with LZ4 as it is when its commonest byte has this share; below it matches are rare. */
const MIN_TOP_SHARE = 1 / 16;
/** A lane with more entropy than this has no plane that LZ4 would shrink. */
const MAX_ENTROPY_BITS = 7.5;
/** Origins tried for a lane, from the highest byte value down: more octaves than a tensor's values spread over. */
const MAX_ORIGINS = 32;

/**
 * Size of an LZ4 block relative to its input, by density: the share of the rarer bit value in a plane of independent
 * bits. Measured on 64 KiB planes; between the points it is taken as linear.
 */
const COST_BY_DENSITY: readonly (readonly [density: number, cost: number])[] = [
  [0, 0.005],
  [0.001, 0.045],
  [0.0125, 0.3],
  [0.03, 0.48],
  [0.05, 0.6],
  [0.08, 0.77],
  [0.12, 1],
];

/** Chooses by a sample of the content. Pure, but for the kernel's memory. */
export function chooseCodec(raw: Uint8Array, kernel: PlanesKernel): CodecChoice {
  if (raw.length < MIN_SAMPLED_BYTES) return { kind: 'lz4' };
  const sample = kernel.load(sampleWindows(raw));
  const lz4Cost = lz4CostOf(sample);
  const positions = kernel.countLanes(sample).map(countedOf);
  const leadBytes = findWordStart(positions);
  const plans = kernel.sampleLanes(sample, leadBytes).map((lane, index) => {
    return planLane(lane, must(positions[(index + leadBytes) % positions.length], 'a lane has its position'));
  });
  const planesCost = plans.reduce((sum, { cost }) => sum + cost, 0) / plans.length;
  if (planesCost < Math.min(1, lz4Cost) - MIN_PLANES_GAIN) {
    const originOf = (lane: number): LaneOrigin => plans[lane]?.origin ?? null;
    return {
      kind: 'planes',
      shape: { leadBytes, origins: [originOf(0), originOf(1), originOf(2), originOf(3)] },
      isCompressible: ({ lane, bit }) => (plans[lane]?.costs[bit ?? 0] ?? 1) < 1 - MIN_SEGMENT_GAIN,
    };
  }
  return { kind: lz4Cost < 1 - MIN_LZ4_GAIN ? 'lz4' : 'stored' };
}

/** The middle of each third, beginning at multiples of four so that every window has words at the same places. */
function sampleWindows(raw: Uint8Array): readonly Uint8Array[] {
  if (raw.length <= SAMPLE_WINDOWS * WINDOW_BYTES) return [raw];
  return Array.from({ length: SAMPLE_WINDOWS }, (_, index) => {
    const middle = (raw.length * (2 * index + 1)) / (2 * SAMPLE_WINDOWS);
    const start = Math.floor((middle - WINDOW_BYTES / 2) / 4) * 4;
    return raw.subarray(start, start + WINDOW_BYTES);
  });
}

/**
 * How many bytes lie before the first word. The highest byte of a rotated word holds the exponent, or the high digits of
 * an integer, and of all positions it has the least entropy; two 16-bit numbers in a word have two such positions, and
 * either will do.
 */
function findWordStart(positions: readonly Counted[]): number {
  const entropies = positions.map(({ entropyBits }) => entropyBits);
  return (entropies.indexOf(Math.min(...entropies)) + 1) % positions.length;
}

/** How often the byte values of one position occur. */
interface Counted {
  readonly counts: Uint32Array;
  readonly total: number;
  /** Values that occur, ascending. */
  readonly present: readonly number[];
  readonly topCount: number;
  readonly entropyBits: number;
}

function countedOf(counts: Uint32Array): Counted {
  const present: number[] = [];
  let [total, topCount, weighted] = [0, 0, 0];
  for (const [value, count] of counts.entries()) {
    if (count === 0) continue;
    present.push(value);
    total += count;
    topCount = Math.max(topCount, count);
    weighted += count * Math.log2(count);
  }
  return { counts, total, present, topCount, entropyBits: Math.log2(total) - weighted / total };
}

interface LanePlan {
  readonly origin: LaneOrigin;
  /** Of the lane, relative to its length. */
  readonly cost: number;
  /** By bit; of a lane kept whole, one. */
  readonly costs: readonly number[];
}

function planLane(lane: Buffer, counted: Counted): LanePlan {
  const wholeCost = counted.topCount >= counted.total * MIN_TOP_SHARE ? lz4CostOf(lane) : 1;
  let best: LanePlan = { origin: null, cost: Math.min(1, wholeCost), costs: [wholeCost] };
  if (counted.entropyBits > MAX_ENTROPY_BITS) return best;
  for (const origin of counted.present.slice(-MAX_ORIGINS)) {
    const costs = bitCosts(counted, origin);
    const cost = costs.reduce((sum, one) => sum + one, 0) / costs.length;
    if (cost < best.cost) best = { origin, cost, costs };
  }
  return best;
}

function bitCosts({ counts, present, total }: Counted, origin: number): readonly number[] {
  const ones = new Uint32Array(8);
  for (const value of present) {
    const distance = (origin - value) & 0xff;
    const count = counts[value] ?? 0;
    for (let bit = 0; distance >> bit !== 0; bit += 1) if ((distance >> bit) & 1) ones[bit] = (ones[bit] ?? 0) + count;
  }
  return Array.from(ones, (count) => planeCost(Math.min(count, total - count) / total));
}

function planeCost(density: number): number {
  let [fromDensity, fromCost] = [0, 0];
  for (const [toDensity, toCost] of COST_BY_DENSITY) {
    if (density <= toDensity) {
      const share = toDensity === fromDensity ? 1 : (density - fromDensity) / (toDensity - fromDensity);
      return fromCost + share * (toCost - fromCost);
    }
    [fromDensity, fromCost] = [toDensity, toCost];
  }
  return 1;
}

function lz4CostOf(bytes: Buffer): number {
  return (compressSync(bytes).length - 4) / bytes.length;
}
