import { random32 } from './random32.ts';

/** Data of one kind to measure codecs with; the same bytes for the same length. */
export interface Corpus {
  readonly name: string;
  readonly bytes: Buffer;
}

/** Weights are Gaussian with a sigma of its own for every "tensor" of a million values, as in a transformer. */
export function makeCorpora(lengthBytes: number): readonly Corpus[] {
  return [
    { name: 'bf16', bytes: weights(lengthBytes, 'bf16') },
    { name: 'fp16', bytes: weights(lengthBytes, 'fp16') },
    { name: 'fp32', bytes: weights(lengthBytes, 'fp32') },
    { name: 'text', bytes: text(lengthBytes) },
    { name: 'random', bytes: noise(lengthBytes) },
    { name: 'zeros', bytes: Buffer.alloc(lengthBytes) },
  ];
}

const TENSOR_VALUES = 1_000_000;

/** Gaussian weights in one of the types checkpoints hold; others for another seed. */
export function weights(lengthBytes: number, type: 'bf16' | 'fp16' | 'fp32', seed = 1): Buffer {
  const next = random32(seed);
  const values = lengthBytes / (type === 'fp32' ? 4 : 2);
  const bytes = Buffer.alloc(lengthBytes);
  let sigma = 0;
  for (let index = 0; index < values; index += 1) {
    if (index % TENSOR_VALUES === 0) sigma = 0.005 * 2 ** ((next() / 2 ** 32) * 5);
    const radius = Math.sqrt(-2 * Math.log((next() + 1) / (2 ** 32 + 1)));
    const value = sigma * radius * Math.cos((2 * Math.PI * next()) / 2 ** 32);
    if (type === 'fp32') bytes.writeFloatLE(value, index * 4);
    else bytes.writeUInt16LE(type === 'bf16' ? toBfloat16(value) : toFloat16(value), index * 2);
  }
  return bytes;
}

/** bf16 weights before and after a step of training that moves each by about `step` of itself. */
export function trainedOn(lengthBytes: number, step: number): readonly [before: Buffer, after: Buffer] {
  const exact = weights(2 * lengthBytes, 'fp32');
  const moves = weights(2 * lengthBytes, 'fp32').subarray(4);
  const [before, after] = [Buffer.alloc(lengthBytes), Buffer.alloc(lengthBytes)];
  for (let at = 0; at + 8 <= exact.length; at += 4) {
    const value = exact.readFloatLE(at);
    before.writeUInt16LE(toBfloat16(value), at / 2);
    after.writeUInt16LE(toBfloat16(value * (1 + step * Math.sign(moves.readFloatLE(at)))), at / 2);
  }
  return [before, after];
}

/** Text with the statistics of words: a vocabulary, the frequent ones far more often. */
function text(lengthBytes: number): Buffer {
  const next = random32(2);
  const vocabulary = Array.from({ length: 5_000 }, () => {
    const letters = Array.from({ length: 2 + (next() % 9) }, () => 'etaoinshrdlucmfwyp'[next() % 18] ?? 'e');
    return letters.join('');
  });
  const words: string[] = [];
  for (let length = 0; length < lengthBytes;) {
    const rank = Math.floor(vocabulary.length ** (next() / 2 ** 32)) - 1;
    const word = vocabulary[rank] ?? 'the';
    words.push(word);
    length += word.length + 1;
  }
  return Buffer.from(words.join(' ')).subarray(0, lengthBytes);
}

function noise(lengthBytes: number): Buffer {
  const next = random32(3);
  const bytes = Buffer.alloc(lengthBytes);
  for (let at = 0; at + 4 <= lengthBytes; at += 4) bytes.writeUInt32LE(next(), at);
  return bytes;
}

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);

/** Rounded to nearest. */
function toBfloat16(value: number): number {
  asFloat[0] = value;
  return (((asBits[0] ?? 0) + 0x8000) >>> 16) & 0xffff;
}

/** Of values that are normal numbers in 16 bits, else zero; truncated. */
function toFloat16(value: number): number {
  asFloat[0] = value;
  const bits = asBits[0] ?? 0;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  if (exponent <= 0) return 0;
  return ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}
