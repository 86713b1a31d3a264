/** A stream of 32-bit numbers that is the same for the same seed (xorshift with a multiplication). */
export function random32(seed: number): () => number {
  let state = (seed * 0x9e37_79b9) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.imul(state, 0x2c1b_3c6d) >>> 0;
  };
}
