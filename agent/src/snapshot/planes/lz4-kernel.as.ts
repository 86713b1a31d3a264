/**
 * LZ4 blocks, in AssemblyScript; built together with planes-kernel.as.ts into one module, `codec-kernel.wasm`.
 * The block format: github.com/lz4/lz4, doc/lz4_Block_format.md.
 *
 * Both directions copy in steps of 16 bytes and so read and write past the ends they are given, never by more than
 * 64 bytes (the longest short sequence is 14 literals and 18 of match); the caller leaves that much between its regions.
 * Every longer copy is compared with the ends before it is begun, so that no input, however hostile, reaches any other
 * memory or runs for longer than its length.
 */

const MIN_MATCH: usize = 4;
/** The last bytes of a block are literals, and no match begins in its last twelve: the format says so. */
const LAST_LITERALS: usize = 5;
const MATCH_LIMIT: usize = 12;
const MAX_DISTANCE: usize = 65_535;

/** For distances under 16: the bytes of the period, over and over, as indexes into the 16 bytes at the match. */
const PERIODS: usize = memory.data<u8>([
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0,
  1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1,
  2, 3, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 0, 1, 2, 3, 4,
  5, 6, 0, 1, 2, 3, 4, 5, 6, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2,
  3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2, 3, 4, 0, 1, 2,
  3, 4, 5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8,
  9, 10, 11, 12, 13, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0,
]);
/** The most whole periods that fit into 16 bytes. */
const STEPS: usize = memory.data<u8>([16, 16, 16, 15, 16, 15, 12, 14, 16, 9, 10, 11, 12, 13, 14, 15]);

/**
 * Unpacks a block. What lies behind `target + targetLength` within the margin is overwritten.
 * @returns 1 when exactly `targetLength` bytes came out of exactly `length`, else 0
 */
export function decodeBlock(source: usize, length: usize, target: usize, targetLength: usize): i32 {
  const inEnd = source + length;
  const outEnd = target + targetLength;
  let from = source;
  let to = target;
  while (from < inEnd) {
    const token = <usize>load<u8>(from);
    from += 1;
    let literals = token >> 4;
    v128.store(to, v128.load(from));
    if (literals === 15) {
      let more: usize = 255;
      while (more === 255) {
        if (from >= inEnd) return 0;
        more = <usize>load<u8>(from);
        from += 1;
        literals += more;
      }
      if (literals > inEnd - from || literals > outEnd - to) return 0;
      const end = to + literals;
      let at = from;
      do {
        v128.store(to, v128.load(at));
        v128.store(to, v128.load(at, 16), 16);
        at += 32;
        to += 32;
      } while (to < end);
      to = end;
      from += literals;
    } else {
      to += literals;
      from += literals;
    }
    // Literals without a match are the end of a block.
    if (from >= inEnd) return <i32>(from === inEnd && to === outEnd);

    const distance = <usize>load<u16>(from);
    from += 2;
    if (distance - 1 >= to - target) return 0;
    let match = to - distance;
    let size = token & 15;
    if (size !== 15) {
      if (distance >= 16) {
        v128.store(to, v128.load(match));
        store<u32>(to, load<u32>(match, 16), 16);
      } else {
        const period = i8x16.swizzle(v128.load(match), v128.load(PERIODS + (distance << 4)));
        v128.store(to, period);
        v128.store(to + <usize>load<u8>(STEPS + distance), period);
      }
      to += size + MIN_MATCH;
      if (to > outEnd) return 0;
    } else {
      let more: usize = 255;
      while (more === 255) {
        if (from >= inEnd) return 0;
        more = <usize>load<u8>(from);
        from += 1;
        size += more;
      }
      size += MIN_MATCH;
      // The literals before it may have gone beyond the end by some bytes.
      if (to > outEnd || size > outEnd - to) return 0;
      const end = to + size;
      if (distance >= 16) {
        do {
          v128.store(to, v128.load(match));
          v128.store(to, v128.load(match, 16), 16);
          match += 32;
          to += 32;
        } while (to < end);
      } else {
        const period = i8x16.swizzle(v128.load(match), v128.load(PERIODS + (distance << 4)));
        const step = <usize>load<u8>(STEPS + distance);
        do {
          v128.store(to, period);
          to += step;
        } while (to < end);
      }
      to = end;
    }
  }
  return 0;
}

/**
 * Bits of a hash of five bytes; the encoder's table has a u32 for every value. More find more matches but leave the
 * first level of the cache; fewer, for short inputs, are cleared in less time.
 */
const MAX_HASH_BITS: u32 = 14;
const MIN_HASH_BITS: u32 = 8;
/** After so many positions (as a power of two) without a match, one more byte is skipped at a time. */
const SKIP_BITS: u32 = 6;

/**
 * Packs a block, greedily.
 * @param table 64 KiB, cleared here as far as it is used
 * @returns its length; 0 when it would not be shorter than `limit`. Up to `limit` bytes and the margin are written
 */
export function encodeBlock(source: usize, length: usize, target: usize, limit: usize, table: usize): i32 {
  const end = source + length;
  const outEnd = target + limit;
  let to = target;
  let anchor = source;
  if (length > MATCH_LIMIT) {
    const lastStart = end - MATCH_LIMIT;
    const matchEnd = end - LAST_LITERALS;
    const bits = min(MAX_HASH_BITS, max(MIN_HASH_BITS, 30 - clz(<u32>length)));
    const shift = <u64>(64 - bits);
    memory.fill(table, 0, (<usize>4) << bits);
    let at = source + 1;
    let match: usize = 0;
    while (true) {
      let tries: u32 = 1 << SKIP_BITS;
      let found = false;
      while (at <= lastStart) {
        const cell = cellOf(table, at, shift);
        match = source + <usize>load<u32>(cell);
        store<u32>(cell, <u32>(at - source));
        if (load<u32>(match) === load<u32>(at) && at - match <= MAX_DISTANCE) {
          found = true;
          break;
        }
        at += <usize>(tries >> SKIP_BITS);
        tries += 1;
      }
      if (!found) break;
      while (at > anchor && match > source && load<u8>(at - 1) === load<u8>(match - 1)) {
        at -= 1;
        match -= 1;
      }
      const literals = at - anchor;
      // What is written before the next comparison: a token, literals and the bytes of their length, the distance.
      if (to + literals + literals / 255 + 16 >= outEnd) return 0;
      let token = to;
      to = putLiterals(to, anchor, literals);
      while (true) {
        store<u16>(to, <u16>(at - match));
        to += 2;
        const size = sizeOfMatch(at + MIN_MATCH, match + MIN_MATCH, matchEnd);
        at += MIN_MATCH + size;
        if (to + size / 255 + 16 >= outEnd) return 0;
        to = putSize(token, to, size);
        anchor = at;
        if (at > lastStart) break;
        store<u32>(cellOf(table, at - 2, shift), <u32>(at - 2 - source));
        const cell = cellOf(table, at, shift);
        match = source + <usize>load<u32>(cell);
        store<u32>(cell, <u32>(at - source));
        if (load<u32>(match) !== load<u32>(at) || at - match > MAX_DISTANCE) break;
        token = to;
        store<u8>(to, 0);
        to += 1;
      }
      if (at > lastStart) break;
      at += 1;
    }
  }
  const literals = end - anchor;
  if (to + literals + literals / 255 + 2 >= outEnd) return 0;
  to = putLiterals(to, anchor, literals);
  return <i32>(to - target);
}

/** The cell of the five bytes at an address. */
function cellOf(table: usize, at: usize, shift: u64): usize {
  return table + ((<usize>(((load<u64>(at) << 24) * 889523592379) >> shift)) << 2);
}

/** How many bytes are alike at `at` and `match`, up to `end`; at most 8 behind it are read. */
function sizeOfMatch(at: usize, match: usize, end: usize): usize {
  const start = at;
  while (at < end) {
    const difference = load<u64>(at) ^ load<u64>(match);
    if (difference !== 0) return min(at + <usize>(ctz(difference) >> 3), end) - start;
    at += 8;
    match += 8;
  }
  return end - start;
}

/** A token with literals and no match yet. */
function putLiterals(to: usize, from: usize, literals: usize): usize {
  if (literals < 15) {
    store<u8>(to, <u8>(literals << 4));
    v128.store(to, v128.load(from), 1);
    return to + 1 + literals;
  }
  store<u8>(to, 0xf0);
  to = putRest(to + 1, literals - 15);
  const end = to + literals;
  do {
    v128.store(to, v128.load(from));
    to += 16;
    from += 16;
  } while (to < end);
  return end;
}

/** The length of a match, less the shortest, into its token and behind `to`. */
function putSize(token: usize, to: usize, size: usize): usize {
  if (size < 15) {
    store<u8>(token, load<u8>(token) | <u8>size);
    return to;
  }
  store<u8>(token, load<u8>(token) | 15);
  return putRest(to, size - 15);
}

function putRest(to: usize, rest: usize): usize {
  while (rest >= 255) {
    store<u8>(to, 255);
    to += 1;
    rest -= 255;
  }
  store<u8>(to, <u8>rest);
  return to + 1;
}
