/**
 * The plane transform, checksums and counts, in AssemblyScript; built together with lz4-kernel.as.ts into one module,
 * `codec-kernel.wasm`, which is committed because the agent runs from source. After a change here, build it again:
 * npm run build:wasm --workspace agent
 *
 * The transform is specified in control-plane/docs/FORMAT.md; a test compares this with a plain implementation of it.
 * Every pointer and length is the caller's to bound; nothing is allocated here.
 */

/** Words handled by one turn of the loops; `words` is always a multiple of it. */
const GROUP: usize = 64;

/** Words to lanes: lane b (bits 8b to 8b+7 of each word rotated left by one) goes to the address `lane b`. */
export function splitLanes(source: usize, words: usize, lane0: usize, lane1: usize, lane2: usize, lane3: usize): void {
  for (let at: usize = 0; at < words; at += 16) {
    const from = source + at * 4;
    const w0 = rotateLeft(v128.load(from));
    const w1 = rotateLeft(v128.load(from, 16));
    const w2 = rotateLeft(v128.load(from, 32));
    const w3 = rotateLeft(v128.load(from, 48));
    // Each of these: 8 bytes of one lane, then 8 of the next.
    const low01 = i8x16.shuffle(w0, w1, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    const low23 = i8x16.shuffle(w2, w3, 0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    const high01 = i8x16.shuffle(w0, w1, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    const high23 = i8x16.shuffle(w2, w3, 2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31);
    v128.store(lane0 + at, i64x2.shuffle(low01, low23, 0, 2));
    v128.store(lane1 + at, i64x2.shuffle(low01, low23, 1, 3));
    v128.store(lane2 + at, i64x2.shuffle(high01, high23, 0, 2));
    v128.store(lane3 + at, i64x2.shuffle(high01, high23, 1, 3));
  }
}

/** Inverse of splitLanes, of lanes that follow each other. */
export function joinLanes(lanes: usize, target: usize, words: usize): void {
  for (let at: usize = 0; at < words; at += 16) {
    const from = lanes + at;
    const b0 = v128.load(from);
    const b1 = v128.load(from + words);
    const b2 = v128.load(from + 2 * words);
    const b3 = v128.load(from + 3 * words);
    const low0 = i8x16.shuffle(b0, b1, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const low1 = i8x16.shuffle(b0, b1, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const high0 = i8x16.shuffle(b2, b3, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const high1 = i8x16.shuffle(b2, b3, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const to = target + at * 4;
    v128.store(to, rotateRight(i16x8.shuffle(low0, high0, 0, 8, 1, 9, 2, 10, 3, 11)));
    v128.store(to, rotateRight(i16x8.shuffle(low0, high0, 4, 12, 5, 13, 6, 14, 7, 15)), 16);
    v128.store(to, rotateRight(i16x8.shuffle(low1, high1, 0, 8, 1, 9, 2, 10, 3, 11)), 32);
    v128.store(to, rotateRight(i16x8.shuffle(low1, high1, 4, 12, 5, 13, 6, 14, 7, 15)), 48);
  }
}

/** One lane to its eight bit planes of `origin - byte`, highest bit first, words / 8 bytes each. */
export function splitBits(lane: usize, planes: usize, words: usize, origin: u32): void {
  const plane = words >> 3;
  const base = i8x16.splat(<i8>origin);
  for (let at: usize = 0; at < words; at += GROUP) {
    let x0 = i8x16.sub(base, v128.load(lane + at));
    let x1 = i8x16.sub(base, v128.load(lane + at, 16));
    let x2 = i8x16.sub(base, v128.load(lane + at, 32));
    let x3 = i8x16.sub(base, v128.load(lane + at, 48));
    let to = planes + (at >> 3);
    for (let bit = 0; bit < 8; bit += 1) {
      const low = <u64>(<u32>i8x16.bitmask(x0) | ((<u32>i8x16.bitmask(x1)) << 16));
      const high = <u64>(<u32>i8x16.bitmask(x2) | ((<u32>i8x16.bitmask(x3)) << 16));
      store<u64>(to, low | (high << 32));
      // Doubling is a shift to the left by one; SIMD of this machine has no byte shift of its own.
      x0 = i8x16.add(x0, x0);
      x1 = i8x16.add(x1, x1);
      x2 = i8x16.add(x2, x2);
      x3 = i8x16.add(x3, x3);
      to += plane;
    }
  }
}

/** Inverse of splitBits. */
export function joinBits(planes: usize, lane: usize, words: usize, origin: u32): void {
  const plane = words >> 3;
  const base = i8x16.splat(<i8>origin);
  const spread = v128(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const select = v128(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  for (let at: usize = 0; at < words; at += 16) {
    let value = i8x16.splat(0);
    let from = planes + (at >> 3);
    for (let bit = 0; bit < 8; bit += 1) {
      const bits = i8x16.swizzle(v128.load_splat<u16>(from), spread);
      // A lane whose bit is set compares to -1; subtracting it adds the bit below the ones gathered so far.
      const isSet = i8x16.eq(v128.and(bits, select), select);
      value = i8x16.sub(i8x16.add(value, value), isSet);
      from += plane;
    }
    v128.store(lane + at, i8x16.sub(base, value));
  }
}

/**
 * Counts the bytes of lanes without knowing where words begin: position j counts byte j of the source shifted left by
 * one with the highest bit of the byte before it. `table` is four tables of 256 u32 by j mod 4, cleared here.
 */
export function countLanes(source: usize, length: usize, table: usize): void {
  memory.fill(table, 0, 4096);
  let before: u32 = 0;
  for (let at: usize = 0; at < length; at += 1) {
    const byte = <u32>load<u8>(source + at);
    const symbol = ((byte << 1) | (before >> 7)) & 0xff;
    const cell = table + ((at & 3) << 10) + (symbol << 2);
    store<u32>(cell, load<u32>(cell) + 1);
    before = byte;
  }
}

/** XXH32 with seed 0. */
export function xxh32(source: usize, length: usize): u32 {
  const end = source + length;
  let at = source;
  let hash: u32 = 0x165667b1;
  if (length >= 16) {
    let lane1: u32 = 0x24234428;
    let lane2: u32 = 0x85ebca77;
    let lane3: u32 = 0;
    let lane4: u32 = 0x61c8864f;
    for (; at + 16 <= end; at += 16) {
      lane1 = round(lane1, load<u32>(at));
      lane2 = round(lane2, load<u32>(at, 4));
      lane3 = round(lane3, load<u32>(at, 8));
      lane4 = round(lane4, load<u32>(at, 12));
    }
    hash = rotl<u32>(lane1, 1) + rotl<u32>(lane2, 7) + rotl<u32>(lane3, 12) + rotl<u32>(lane4, 18);
  }
  hash += <u32>length;
  for (; at + 4 <= end; at += 4) hash = rotl<u32>(hash + load<u32>(at) * 0xc2b2ae3d, 17) * 0x27d4eb2f;
  for (; at < end; at += 1) hash = rotl<u32>(hash + <u32>load<u8>(at) * 0x165667b1, 11) * 0x9e3779b1;
  hash = (hash ^ (hash >> 15)) * 0x85ebca77;
  hash = (hash ^ (hash >> 13)) * 0xc2b2ae3d;
  return hash ^ (hash >> 16);
}

function round(lane: u32, input: u32): u32 {
  return rotl<u32>(lane + input * 0x85ebca77, 13) * 0x9e3779b1;
}

function rotateLeft(words: v128): v128 {
  return v128.or(i32x4.shl(words, 1), i32x4.shr_u(words, 31));
}

function rotateRight(words: v128): v128 {
  return v128.or(i32x4.shr_u(words, 1), i32x4.shl(words, 31));
}

/** Exclusive or of two ranges, into the first. */
export function xor(target: usize, other: usize, length: usize): void {
  let at: usize = 0;
  for (; at + 16 <= length; at += 16) v128.store(target + at, v128.xor(v128.load(target + at), v128.load(other + at)));
  for (; at < length; at += 1) store<u8>(target + at, load<u8>(target + at) ^ load<u8>(other + at));
}
