/**
 * The scan for content-defined cuts, in AssemblyScript; `cut-window.ts` calls it. The built module is committed, because
 * the agent runs from source. After a change here, build it again: npm run build:wasm --workspace agent
 *
 * A position is where a chunk may end; whether it may depends on the 64 bytes before it alone, so the old
 * cuts are soon met again behind an edit. Two stages, because almost no position passes the first:
 *
 *  1. a 16-bit hash of the last 8 bytes, four 16-bit words by multiply and add, 8 positions at once; its top 12 bits
 *     must be 0x7ff. One position in 4,096 of random data. No repeated byte passes, so runs of zeros never get to stage 2.
 *  2. a multilinear 64-bit hash of the last 64 bytes; its top bits must be zero: 10 bits (strict) in the chunk's first
 *     `NORMAL_BYTES`, 6 bits (loose) from there on. This is what makes lengths gather around 1 MiB.
 *
 * Neither stage is keyed. A secret key would hide from whoever sees chunk lengths which known file they may belong to,
 * but whoever reads the store sees the manifests and the bytes as well, and chunk ids are hashes without a key.
 */

/** Bounds of a chunk, and where the loose test begins: with these two tests the mean of random data is 1 MiB. */
const MIN_BYTES: i32 = 256 * 1024;
const NORMAL_BYTES: i32 = 832 * 1024;

/** What is left of a 64-bit hash are its top 10 or 6 bits. */
const STRICT_SHIFT: u64 = 64 - 10;
const LOOSE_SHIFT: u64 = 64 - 6;

const VECTOR_POSITIONS: i32 = 32;

/** Odd, so that multiplying loses nothing; arbitrary otherwise. */
const WORD_A: i16 = 0x6f4b;
const WORD_B: i16 = 0x2c8d;
/** The largest 16-bit hash, signed, that stage 1 refuses. */
const STAGE_1_LIMIT: i16 = 0x7fef;

/**
 * The first position in (from, end] where the chunk that begins at `start` may end; 0 when there is none, or none that
 * is `MIN_BYTES` long. Call it again with `from` = the old `end` when more bytes are there: the result does not depend on how
 * the bytes were handed over. All are addresses; 32 bytes after `end` are read and do not matter.
 */
export function findCut(start: i32, from: i32, end: i32): i32 {
  const first = max(from + 1, start + MIN_BYTES);
  const normal = min(start + NORMAL_BYTES, end + 1);
  const cut = findIn(first, normal, STRICT_SHIFT);
  return cut !== 0 ? cut : findIn(max(first, normal), end + 1, LOOSE_SHIFT);
}

/** The first position in [first, limit) that passes both stages, else 0. */
function findIn(first: i32, limit: i32, shift: u64): i32 {
  const a = i16x8.splat(WORD_A);
  const b = i16x8.splat(WORD_B);
  const bound = i16x8.splat(STAGE_1_LIMIT);
  for (let at = first; at < limit; at += VECTOR_POSITIONS) {
    // Lane k of the first is position at + 2k, of the second at + 1 + 2k, of the others 16 farther.
    const even = stage1(at, a, b, bound);
    const odd = stage1(at + 1, a, b, bound);
    const evenNext = stage1(at + 16, a, b, bound);
    const oddNext = stage1(at + 17, a, b, bound);
    if (!v128.any_true(v128.or(v128.or(even, odd), v128.or(evenNext, oddNext)))) continue;
    let mask = interleave(even, odd) | (interleave(evenNext, oddNext) << 16);
    for (; mask !== 0; mask &= mask - 1) {
      const position = at + ctz<i32>(mask);
      if (position >= limit) return 0;
      if (stage2(position) >> shift === 0) return position;
    }
  }
  return 0;
}

/** All ones in the lanes whose position, `at` + 2k, passes stage 1. */
function stage1(at: i32, a: v128, b: v128, bound: v128): v128 {
  const left = i16x8.add(i16x8.mul(v128.load(at - 8), a), v128.load(at - 6));
  const right = i16x8.add(i16x8.mul(v128.load(at - 4), a), v128.load(at - 2));
  return i16x8.gt_s(i16x8.add(i16x8.mul(left, b), right), bound);
}

/** Bit 2k from lane k of `even`, bit 2k + 1 from lane k of `odd`. */
function interleave(even: v128, odd: v128): i32 {
  const low = v128.shuffle<u8>(even, odd, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
  return i8x16.bitmask(low);
}

/** Independent products, so that even data made of candidates only is scanned at some hundred MB/s. */
function stage2(at: i32): u64 {
  let sum: u64 = 0x6a09_e667_f3bc_c909;
  sum += load<u64>(at - 64) * 0x9e37_79b9_7f4a_7c15;
  sum += load<u64>(at - 56) * 0xbf58_476d_1ce4_e5b9;
  sum += load<u64>(at - 48) * 0x94d0_49bb_1331_11eb;
  sum += load<u64>(at - 40) * 0xd6e8_feb8_6659_fd93;
  sum += load<u64>(at - 32) * 0xa076_1d64_78bd_642f;
  sum += load<u64>(at - 24) * 0xe703_7ed1_a0b4_28db;
  sum += load<u64>(at - 16) * 0x8ebc_6af0_9c88_c6e3;
  sum += load<u64>(at - 8) * 0x5899_65cc_7537_4cc3;
  return sum;
}
