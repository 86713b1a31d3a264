/**
 * The cut rule of the agent's content-defined chunks, one position after the other, as plain as it can be said. The
 * agent runs the same rule in WebAssembly.
 */
export function referenceCuts(bytes: Buffer): readonly number[] {
  const cuts: number[] = [];
  for (let start = 0; start < bytes.length; start = cuts.at(-1) ?? 0) {
    const limit = Math.min(bytes.length, start + 4 * MIB);
    let cut = start + MIB / 4;
    while (cut < limit && !mayCut(bytes, cut, cut < start + 832 * 1024 ? 10n : 6n)) cut += 1;
    cuts.push(Math.min(cut, limit));
  }
  return cuts;
}

const MIB = 1_048_576;

function mayCut(bytes: Buffer, at: number, bits: bigint): boolean {
  return stage1(bytes, at) === 0x7ff && stage2(bytes, at) >> (64n - bits) === 0n;
}

/** Top 12 bits of the hash of the last 8 bytes. */
function stage1(bytes: Buffer, at: number): number {
  const left = bytes.readUInt16LE(at - 8) * 0x6f4b + bytes.readUInt16LE(at - 6);
  const right = bytes.readUInt16LE(at - 4) * 0x6f4b + bytes.readUInt16LE(at - 2);
  return ((Math.imul(left, 0x2c8d) + right) >>> 4) & 0xfff;
}

const FACTORS = [
  0x9e3779b97f4a7c15n,
  0xbf58476d1ce4e5b9n,
  0x94d049bb133111ebn,
  0xd6e8feb86659fd93n,
  0xa0761d6478bd642fn,
  0xe7037ed1a0b428dbn,
  0x8ebc6af09c88c6e3n,
  0x589965cc75374cc3n,
];

/** Hash of the last 64 bytes. */
function stage2(bytes: Buffer, at: number): bigint {
  const sum = FACTORS.reduce(
    (sum, factor, word) => sum + bytes.readBigUInt64LE(at - 64 + 8 * word) * factor,
    0x6a09e667f3bcc909n,
  );
  return BigInt.asUintN(64, sum);
}
