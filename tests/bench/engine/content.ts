import { random32 } from '../../world/random32.ts';

/** A stream of random numbers below 2^32. */
export type Draw = () => number;

const SYLLABLES = [
  'con',
  'ver',
  'ta',
  'lo',
  'ri',
  'sen',
  'der',
  'mu',
  'pa',
  'ki',
  'node',
  'al',
  'st',
  'ue',
  'or',
  'in',
  'et',
];
const KEYWORDS = ['const', 'return', 'if', 'for', 'function', 'await', 'import', 'export', 'readonly', 'new', 'class'];
const OPERATORS = [' = ', ' + ', '.', '.', '(', ')', ', ', ' === ', ' => ', '[', ']', ': ', ' && ', '!'];
const VOCABULARY_WORDS = 3_000;

/** Makes text of one kind, endlessly different. */
export class TextMaker {
  readonly #next: Draw;
  readonly #words: readonly string[];

  constructor(seed: number) {
    this.#next = random32(seed);
    this.#words = Array.from({ length: VOCABULARY_WORDS }, () =>
      Array.from({ length: 1 + (this.#next() % 4) }, () => this.#one(SYLLABLES)).join(''),
    );
  }

  /** Statements over a vocabulary in which few identifiers are used most of the time; many name the same few things nearby. */
  source(lengthBytes: number): string {
    const local = Array.from({ length: 24 }, () => this.#word());
    const lines: string[] = [];
    let length = 0;
    let depth = 0;
    while (length < lengthBytes) {
      depth = Math.max(0, Math.min(6, depth + (this.#next() % 3) - 1));
      const line = this.#echo(lines) ?? '  '.repeat(depth) + this.#statement(local);
      lines.push(line);
      length += line.length + 1;
    }
    return lines.join('\n').slice(0, lengthBytes);
  }

  /** Lines of a server: a time that advances, one of a few shapes, values that differ. */
  log(lengthBytes: number): string {
    const lines: string[] = [];
    let length = 0;
    let atMs = 1_700_000_000_000 + this.#next();
    while (length < lengthBytes) {
      atMs += this.#next() % 2_000;
      const line = `${new Date(atMs).toISOString()} ${this.#logEvent()}`;
      lines.push(line);
      length += line.length + 1;
    }
    return lines.join('\n').slice(0, lengthBytes);
  }

  /** A few words, as a column of a table holds them. */
  phrase(words: number): string {
    return Array.from({ length: words }, () => this.#word()).join(' ');
  }

  #statement(local: readonly string[]): string {
    const parts = [this.#one(KEYWORDS), ' '];
    const count = 2 + (this.#next() % 5);
    for (let index = 0; index < count; index += 1) {
      parts.push(this.#next() % 4 === 0 ? this.#word() : this.#one(local), this.#one(OPERATORS));
    }
    return `${parts.join('')};`;
  }

  /** Now and then a line much like one above, as people write. */
  #echo(lines: readonly string[]): string | undefined {
    if (lines.length < 4 || this.#next() % 5 > 1) return undefined;
    const line = lines[lines.length - 1 - (this.#next() % Math.min(lines.length, 60))] ?? '';
    const cut = this.#next() % Math.max(1, line.length);
    return line.slice(0, cut) + this.#word() + line.slice(cut + 6);
  }

  #logEvent(): string {
    const id = this.#next().toString(16);
    const value = this.#next() % 100_000;
    switch (this.#next() % 4) {
      case 0:
        return `INFO  step=${value} loss=${(this.#next() / 2 ** 32).toFixed(5)} lr=0.00030 grad_norm=${(this.#next() / 2 ** 31).toFixed(4)}`;
      case 1:
        return `DEBUG request ${id} GET /v1/${this.#word()}/${value} 200 ${this.#next() % 900}ms`;
      case 2:
        return `INFO  worker-${this.#next() % 16} loaded shard ${value} (${this.#next() % 4_096} samples) from ${this.#word()}`;
      default:
        return `WARN  queue ${this.#word()} is at ${this.#next() % 100} % after ${id}`;
    }
  }

  #word(): string {
    return this.#words[Math.floor(VOCABULARY_WORDS ** (this.#next() / 2 ** 32)) - 1] ?? '';
  }

  #one(list: readonly string[]): string {
    return list[this.#next() % list.length] ?? '';
  }
}

/** Uniform bytes. */
export function noise(lengthBytes: number, next: Draw): Buffer {
  const words = new Uint32Array(Math.ceil(lengthBytes / 4));
  for (let index = 0; index < words.length; index += 1) words[index] = next();
  return Buffer.from(words.buffer, 0, lengthBytes);
}

/** Starts as a JPEG does; the rest is as dense as its coded part. */
export function image(lengthBytes: number, next: Draw): Buffer {
  const bytes = noise(lengthBytes, next);
  Buffer.from('ffd8ffe000104a46494600010101004800480000ffdb0043000806060706', 'hex').copy(bytes);
  bytes.writeUInt16BE(0xffd9, lengthBytes - 2);
  return bytes;
}

const PAGE_BYTES = 8_192;
const ROW_FIXED_BYTES = 72;
const ROW_NOISE_BYTES = 40;

/** Pages as a database keeps them: a header, offsets of rows, free space, rows of keys, numbers, hashes and text. */
export function databasePages(count: number, next: Draw, text: TextMaker): Buffer {
  const bytes = Buffer.alloc(count * PAGE_BYTES);
  for (let page = 0; page < count; page += 1) {
    const at = page * PAGE_BYTES;
    bytes.writeUInt32LE(next(), at);
    bytes.writeUInt32LE(page, at + 8);
    let low = 24;
    let high = PAGE_BYTES;
    for (let key = page * 64; ; key += 1) {
      const column = text.phrase(1 + (next() % 5));
      const rowBytes = ROW_FIXED_BYTES + column.length;
      if (high - rowBytes < low + 4 + 200) break;
      high -= rowBytes;
      const row = at + high;
      bytes.writeUInt32LE(next() & 0x0fff, row);
      bytes.writeUInt32LE(key, row + 8);
      noise(ROW_NOISE_BYTES, next).copy(bytes, row + 16);
      bytes.writeDoubleLE(next() / 1_000, row + 64);
      bytes.write(column, row + ROW_FIXED_BYTES, 'latin1');
      bytes.writeUInt16LE(high, at + low);
      bytes.writeUInt16LE(rowBytes, at + low + 2);
      low += 4;
    }
    bytes.writeUInt16LE(low, at + 12);
    bytes.writeUInt16LE(high, at + 14);
  }
  return bytes;
}
