import { assert } from '../util/assert.ts';
import { DumontError } from '../util/errors.ts';

/** Bytes at the start of the frame content that say how it was transformed. */
export const PLANES_HEADER_BYTES = 8;

/** Words are taken in groups of so many, that every plane is a whole number of 64-bit words. */
const GROUP_WORDS = 64;
const WORD_BYTES = 4;
const LANES = 4;
const BITS = 8;
/** First byte of the header: the only transform there is. */
const TRANSFORM = 1;

/** How the words of one chunk are taken apart; written in the header of the frame content. */
export interface PlanesShape {
  /** Bytes before the first word, 0 to 3: content-defined chunks begin anywhere in a tensor. */
  readonly leadBytes: number;
  /**
   * By lane, lowest first: null keeps the lane's bytes as they are; 0 to 255 splits it into bit planes of that origin
   * minus each byte.
   */
  readonly origins: readonly [LaneOrigin, LaneOrigin, LaneOrigin, LaneOrigin];
}
export type LaneOrigin = number | null;

/** One block of the frame after the first: a whole lane, or one bit plane of it. */
export interface PlanesSegment {
  readonly lane: number;
  /** 7 for the highest; null for a whole lane. */
  readonly bit: number | null;
  readonly length: number;
}

/** Where everything lies in the content of a frame of planes. */
export interface PlanesLayout {
  /** A multiple of 64, at least 64. */
  readonly words: number;
  /** Bytes before the first and after the last word, kept as they are. */
  readonly restBytes: number;
  /** In the order of their blocks; their lengths add up to `4 * words`. */
  readonly segments: readonly PlanesSegment[];
}

/** Most blocks of a frame of planes: the first one, and every lane in bit planes. */
export const MAX_PLANES_BLOCKS = 1 + LANES * BITS;

/**
 * The parts of a chunk of `rawLength` bytes taken apart in this shape. Pure.
 * @returns null when it holds not even one group of words
 */
export function planesLayout(rawLength: number, shape: PlanesShape): PlanesLayout | null {
  const words = Math.floor((rawLength - shape.leadBytes) / (GROUP_WORDS * WORD_BYTES)) * GROUP_WORDS;
  if (words < GROUP_WORDS) return null;
  const segments: PlanesSegment[] = [];
  for (let lane = 0; lane < LANES; lane += 1) {
    if (shape.origins[lane] === null) segments.push({ lane, bit: null, length: words });
    else for (let bit = BITS - 1; bit >= 0; bit -= 1) segments.push({ lane, bit, length: words / BITS });
  }
  return { words, restBytes: rawLength - words * WORD_BYTES, segments };
}

/** The shape as the first {@link PLANES_HEADER_BYTES} of the frame content. */
export function encodePlanesHeader(shape: PlanesShape): Uint8Array {
  assert(shape.leadBytes >= 0 && shape.leadBytes < WORD_BYTES, 'less than a word lies before the first word');
  const header = new Uint8Array(PLANES_HEADER_BYTES);
  header[0] = TRANSFORM;
  header[1] = shape.leadBytes;
  for (const [lane, origin] of shape.origins.entries()) {
    if (origin === null) continue;
    header[2] = (header[2] ?? 0) | (1 << lane);
    header[4 + lane] = origin;
  }
  return header;
}

/** Inverse of {@link encodePlanesHeader}. @throws {DumontError} CORRUPT for anything it does not write */
export function decodePlanesHeader(header: Uint8Array): PlanesShape {
  const [transform, leadBytes, mask, zero] = header;
  if (header.length !== PLANES_HEADER_BYTES || transform !== TRANSFORM) throw corrupt('it names another transform');
  if (leadBytes === undefined || leadBytes >= WORD_BYTES) throw corrupt('its words begin too late');
  if (mask === undefined || mask >= 1 << LANES || zero !== 0) throw corrupt('it sets bits that have no meaning');
  const originOf = (lane: number): LaneOrigin => {
    const origin = header[4 + lane] ?? 0;
    if ((mask & (1 << lane)) !== 0) return origin;
    if (origin !== 0) throw corrupt('it gives an origin to a lane that is not split');
    return null;
  };
  return { leadBytes, origins: [originOf(0), originOf(1), originOf(2), originOf(3)] };
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `the header of a frame of planes is refused: ${why}`);
}
