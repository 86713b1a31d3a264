import type { LaneOrigin, PlanesSegment, PlanesShape } from '@dumont/shared/format/planes.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { ElementBytes } from '../tensor/tensor-span.ts';
import type { CodecKernel } from './codec-kernel.ts';

/** Planes of a chunk or of its difference to another. */
export interface PlanesChoice {
  readonly kind: 'planes';
  readonly shape: PlanesShape;
  /** LZ4 is likely to make this segment smaller. */
  readonly isCompressible: (segment: PlanesSegment) => boolean;
  readonly cost: number;
}

/** How a chunk is to be encoded; `cost` is the size expected, relative to the raw. A wrong choice costs space or time, never data. */
export type CodecChoice =
  | { readonly kind: 'stored' | 'lz4' | 'zstd'; readonly cost: number }
  | {
      readonly kind: 'lanes-zstd';
      readonly shape: PlanesShape;
      /** Its lanes have repetitions worth looking for. */
      readonly matches: boolean;
      readonly cost: number;
    }
  | PlanesChoice;

export interface ChoosingOptions {
  readonly effort: 'fast' | 'small';
  readonly elementBytes: ElementBytes | undefined;
}

/** Smaller chunks go to LZ4 or Zstandard at once: a sample would cost as much as the whole. */
const MIN_SAMPLED_BYTES = 64 * 1024;
/** The same for what is known to be an array of numbers, where planes are likely to gain. */
const MIN_SAMPLED_TENSOR_BYTES = 16 * 1024;
/** What LZ4 shrinks this far is text or the like: planes of it would gain nothing, and planning them costs more than LZ4. */
const PLAIN_LZ4_COST = 0.55;
/** Setting Zstandard up takes 75 µs, ten times what LZ4 takes for less than this. */
const MIN_ZSTD_BYTES = 4 * 1024;
const SAMPLE_WINDOWS = 3;
const WINDOW_BYTES = 16 * 1024;

/** LZ4 or Zstandard must save this part of the bytes or the chunk is stored: less is not worth unpacking. */
const MIN_GAIN = 0.02;
/** Planes must be this much smaller than the better of stored and LZ4: they cost more to unpack. */
const MIN_PLANES_GAIN = 0.03;
/** What Zstandard makes of bytes, relative to LZ4, where repetitions are what there is to gain: 0.6 to 0.7 on text. */
const ZSTD_BY_LZ4 = 0.75;
/** Bytes that LZ4 leaves longer than this have no repetitions to speak of. */
const MAX_REPETITIVE_COST = 0.95;
/** A difference must be this much smaller than the chunk alone: restoring it takes its base as well. */
const MAX_DELTA_BY_PLAIN = 0.7;
/** A segment whose estimate saves less than this is stored untried. */
const MIN_SEGMENT_GAIN = 0.05;
/** A lane is tried with LZ4 as it is when its commonest byte has this share; below it matches are rare. */
const MIN_TOP_SHARE = 1 / 16;
/** A lane with more entropy than this has no plane that LZ4 would shrink. */
const MAX_ENTROPY_BITS = 7.5;
/** Origins tried for a lane, from the highest byte value down: more octaves than a tensor's values spread over. */
const MAX_ORIGINS = 32;
/** This origin turns every bit of a lane over and so keeps them apart, as differences want it. */
const INVERTING_ORIGIN = 255;

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

/** Chooses by a sample of the content, which must lie in `raw`. Pure, but for the kernel's memory. */
export function chooseCodec(raw: Uint8Array, kernel: CodecKernel, options: ChoosingOptions): CodecChoice {
  const isSmall = options.effort === 'small';
  const isTensor = options.elementBytes !== undefined;
  if (raw.length < (isTensor ? MIN_SAMPLED_TENSOR_BYTES : MIN_SAMPLED_BYTES)) {
    return { kind: isSmall && raw.length >= MIN_ZSTD_BYTES ? 'zstd' : 'lz4', cost: 1 };
  }
  const sample = kernel.sample(sampleWindows(raw));
  const lz4Cost = lz4CostOf(sample, kernel);
  if (!isTensor && lz4Cost < PLAIN_LZ4_COST) {
    return isSmall ? { kind: 'zstd', cost: zstdCostOf(lz4Cost) } : { kind: 'lz4', cost: lz4Cost };
  }
  const lanes = countLanes(sample, kernel, options.elementBytes);
  if (isSmall) return chooseSmall(lz4Cost, lanes, kernel);
  const planes = planLanes(lanes, kernel, []);
  if (planes.cost < Math.min(1, lz4Cost) - MIN_PLANES_GAIN) return planes;
  return { kind: lz4Cost < 1 - MIN_GAIN ? 'lz4' : 'stored', cost: Math.min(1, lz4Cost) };
}

/**
 * How to encode the difference of a chunk to its base. @param plainCost of the chunk without it
 * @returns null when the difference would not be far smaller
 */
export function chooseDelta(
  { raw, base }: { readonly raw: Uint8Array; readonly base: Uint8Array },
  kernel: CodecKernel,
  { elementBytes, plainCost }: { readonly elementBytes: ElementBytes | undefined; readonly plainCost: number },
): PlanesChoice | null {
  const sample = kernel.sample(sampleWindows(raw));
  kernel.xorSample(sample, sampleWindows(base));
  const planes = planLanes(countLanes(sample, kernel, elementBytes), kernel, [INVERTING_ORIGIN]);
  return planes.cost < plainCost * MAX_DELTA_BY_PLAIN ? planes : null;
}

/** Zstandard's entropy coder makes of lanes about their entropy, whole bits of numbers being independent. */
function chooseSmall(lz4Cost: number, { sample, leadBytes, lanes }: CountedLanes, kernel: CodecKernel): CodecChoice {
  const lz4Costs = kernel.sampleLanes(sample, leadBytes).map((lane, index) => {
    const { topCount, total } = must(lanes[index], 'a lane has its counts');
    return topCount >= total * MIN_TOP_SHARE ? zstdCostOf(lz4CostOf(lane, kernel)) : 1;
  });
  const entropyCosts = lanes.map(({ entropyBits }) => entropyBits / 8);
  const lanesCost = mean(entropyCosts.map((cost, index) => Math.min(cost, lz4Costs[index] ?? 1)));
  const wholeCost = Math.min(zstdCostOf(lz4Cost), byteEntropyBits(sample) / 8);
  if (Math.min(lanesCost, wholeCost) > 1 - MIN_GAIN) return { kind: 'stored', cost: 1 };
  if (wholeCost < lanesCost + MIN_PLANES_GAIN) return { kind: 'zstd', cost: wholeCost };
  const matches = lz4Costs.some((cost, index) => cost < (entropyCosts[index] ?? 1));
  return { kind: 'lanes-zstd', shape: { leadBytes, origins: [null, null, null, null] }, matches, cost: lanesCost };
}

interface CountedLanes {
  readonly sample: Buffer;
  readonly leadBytes: number;
  readonly lanes: readonly Counted[];
}

function countLanes(sample: Buffer, kernel: CodecKernel, elementBytes: ElementBytes | undefined): CountedLanes {
  const positions = kernel.countLanes(sample).map(countedOf);
  // An array of numbers begins with one, and its words with it.
  const leadBytes = elementBytes === undefined ? findWordStart(positions) : 0;
  const lanes = positions.map((_, lane) =>
    must(positions[(lane + leadBytes) % positions.length], 'a lane has its position'),
  );
  return { sample, leadBytes, lanes };
}

function planLanes(
  { sample, leadBytes, lanes }: CountedLanes,
  kernel: CodecKernel,
  origins: readonly number[],
): PlanesChoice {
  const plans = kernel.sampleLanes(sample, leadBytes).map((lane, index) => {
    const counted = must(lanes[index], 'a lane has its counts');
    const isRepetitive = counted.topCount >= counted.total * MIN_TOP_SHARE;
    return planLane(isRepetitive ? lz4CostOf(lane, kernel) : 1, counted, origins);
  });
  const originOf = (lane: number): LaneOrigin => plans[lane]?.origin ?? null;
  return {
    kind: 'planes',
    shape: { leadBytes, origins: [originOf(0), originOf(1), originOf(2), originOf(3)] },
    isCompressible: ({ lane, bit }) => (plans[lane]?.costs[bit ?? 0] ?? 1) < 1 - MIN_SEGMENT_GAIN,
    cost: mean(plans.map(({ cost }) => cost)),
  };
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

function planLane(wholeCost: number, counted: Counted, moreOrigins: readonly number[]): LanePlan {
  let best: LanePlan = { origin: null, cost: Math.min(1, wholeCost), costs: [wholeCost] };
  if (counted.entropyBits > MAX_ENTROPY_BITS) return best;
  for (const origin of [...counted.present.slice(-MAX_ORIGINS), ...moreOrigins]) {
    const costs = bitCosts(counted, origin);
    const cost = mean(costs);
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

function lz4CostOf(bytes: Buffer, kernel: CodecKernel): number {
  const length = kernel.packBlock(bytes, 0);
  return length === 0 ? 1 : length / bytes.length;
}

/** What repetitions are worth to Zstandard, by what they are worth to LZ4. */
function zstdCostOf(lz4Cost: number): number {
  return lz4Cost < MAX_REPETITIVE_COST ? lz4Cost * ZSTD_BY_LZ4 : 1;
}

function byteEntropyBits(bytes: Buffer): number {
  const counts = new Uint32Array(256);
  for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1;
  return countedOf(counts).entropyBits;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
