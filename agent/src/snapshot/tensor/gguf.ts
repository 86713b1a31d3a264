import { readLength, type HeaderReader } from './header-reader.ts';
import { MAX_TENSORS, orderSpans, type ElementBytes, type TensorSpan } from './tensor-span.ts';

/** "GGUF" read as a little-endian number. */
const MAGIC = 0x46554747;
const FIXED_BYTES = 24;
const DEFAULT_ALIGNMENT = 32;
/** Longest key or name; GGUF allows 65,535 for keys. */
const MAX_NAME_BYTES = 65_535;
const MAX_DIMENSIONS = 8;
/** More metadata than any tool writes. */
const MAX_PAIRS = 65_536;
/** Read ahead; headers with a vocabulary have some MiB. */
const CURSOR_BYTES = 256 * 1024;

const TYPE_UINT32 = 4;
const TYPE_STRING = 8;
const TYPE_ARRAY = 9;
/** Length of a metadata value by its type: integers and floats of any width, and booleans. */
const VALUE_BYTES: ReadonlyMap<number, number> = new Map([
  ...[0, 1, 7].map((type) => [type, 1] as const),
  ...[2, 3].map((type) => [type, 2] as const),
  ...[TYPE_UINT32, 5, 6].map((type) => [type, 4] as const),
  ...[10, 11, 12].map((type) => [type, 8] as const),
]);
/** I8; F16, I16, BF16; F32, I32; I64, F64. All others are blocks of packed numbers. */
const ELEMENT_BYTES: ReadonlyMap<number, ElementBytes> = new Map([
  [24, 1] as const,
  ...[1, 25, 30].map((type) => [type, 2] as const),
  ...[0, 26].map((type) => [type, 4] as const),
  ...[27, 28].map((type) => [type, 8] as const),
]);

/** Elements and bytes of a block, by type of packed numbers (ggml-org/ggml, src/ggml-common.h). */
const BLOCKS: ReadonlyMap<number, readonly [elements: number, bytes: number]> = new Map([
  [2, [32, 18]], // Q4_0
  [3, [32, 20]], // Q4_1
  [6, [32, 22]], // Q5_0
  [7, [32, 24]], // Q5_1
  [8, [32, 34]], // Q8_0
  [10, [256, 84]], // Q2_K
  [11, [256, 110]], // Q3_K
  [12, [256, 144]], // Q4_K
  [13, [256, 176]], // Q5_K
  [14, [256, 210]], // Q6_K
]);

/** Length of a tensor's data; null where its type's is not known here. */
function tensorBytes(type: number, elementCount: number): number | null {
  const [elements, bytes] = BLOCKS.get(type) ?? [1, ELEMENT_BYTES.get(type)];
  return bytes === undefined ? null : Math.ceil(elementCount / elements) * bytes;
}

/** True when a file that begins so may be one, of a version read here. */
export function looksLikeGguf(start: Buffer): boolean {
  const version = start.readUInt32LE(4);
  return start.readUInt32LE(0) === MAGIC && (version === 2 || version === 3);
}

/**
 * The tensors of a GGUF file: metadata, a table of tensors, then their data, aligned (github.com/ggml-org/ggml,
 * docs/gguf.md). Each reaches to the next one's start, padding included. Null when the header is not valid.
 */
export function readGguf(reader: HeaderReader): readonly TensorSpan[] | null {
  const header = readHeader(reader);
  if (header === null) return null;
  const { tensors, dataOffset } = header;
  const spans = tensors.map(({ offset, elementBytes }, index) => {
    const end = tensors[index + 1]?.offset ?? Math.max(offset, reader.sizeBytes - dataOffset);
    return { offset: dataOffset + offset, length: end - offset, elementBytes };
  });
  // Two at one place overlap, unless they are empty, which no tool writes.
  if (spans.some(({ length }, index) => length === 0 && index < spans.length - 1)) return null;
  return orderSpans(spans, reader.sizeBytes);
}

/**
 * Bytes that the file has at least once it is whole: up to the end of the last tensor, or to its beginning where the
 * length of its type is not known. Null when the header is not valid, or not all there.
 */
export function ggufLength(reader: HeaderReader): number | null {
  const header = readHeader(reader);
  if (header === null) return null;
  const ends = header.tensors.map(({ offset, type, elementCount }) => offset + (tensorBytes(type, elementCount) ?? 1));
  return header.dataOffset + Math.max(0, ...ends.slice(-1));
}

function readHeader(reader: HeaderReader) {
  const start = reader.read(0, FIXED_BYTES);
  if (start === null) return null;
  const tensorCount = readLength(start, 8);
  const pairCount = readLength(start, 16);
  if (tensorCount > MAX_TENSORS || pairCount > MAX_PAIRS) return null;
  const cursor = new Cursor(reader, FIXED_BYTES);
  let alignment = DEFAULT_ALIGNMENT;
  for (let pair = 0; pair < pairCount; pair += 1) {
    const key = cursor.name();
    const type = cursor.u32();
    if (key === 'general.alignment' && type === TYPE_UINT32) alignment = cursor.u32() ?? 0;
    else if (!skipValue(cursor, type)) return null;
  }
  const tensors = readTable(cursor, tensorCount);
  if (tensors === null || alignment < 1) return null;
  const dataOffset = Math.ceil(cursor.offset / alignment) * alignment;
  return { tensors: tensors.sort((a, b) => a.offset - b.offset), dataOffset };
}

interface TableRow {
  readonly offset: number;
  readonly type: number;
  readonly elementCount: number;
  readonly elementBytes: ElementBytes | undefined;
}

function readTable(cursor: Cursor, count: number): TableRow[] | null {
  const tensors: TableRow[] = [];
  for (let index = 0; index < count; index += 1) {
    const name = cursor.name();
    const dimensions = cursor.u32();
    if (name === null || dimensions === null || dimensions > MAX_DIMENSIONS) return null;
    let elementCount = 1;
    for (let dimension = 0; dimension < dimensions; dimension += 1) elementCount *= cursor.u64() ?? Number.NaN;
    const type = cursor.u32();
    const offset = cursor.u64();
    if (type === null || offset === null) return null;
    tensors.push({ offset, type, elementCount, elementBytes: ELEMENT_BYTES.get(type) });
  }
  return tensors;
}

/** False when the value's type is unknown, or the file ends in it. Arrays of arrays, which no tool writes, count as unknown. */
function skipValue(cursor: Cursor, type: number | null): boolean {
  if (type === TYPE_STRING) return cursor.skipStrings(1);
  if (type !== TYPE_ARRAY) return cursor.skip(VALUE_BYTES.get(type ?? -1) ?? Number.NaN);
  const elementType = cursor.u32();
  const count = cursor.u64();
  if (elementType === null || count === null) return false;
  if (elementType === TYPE_STRING) return cursor.skipStrings(count);
  return cursor.skip(count * (VALUE_BYTES.get(elementType) ?? Number.NaN));
}

/** Reads forward through a header. */
class Cursor {
  readonly #reader: HeaderReader;
  #offset: number;
  #window: Buffer = Buffer.alloc(0);
  #windowOffset = 0;

  constructor(reader: HeaderReader, offset: number) {
    this.#reader = reader;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  u32(): number | null {
    if (!this.#holds(4) && !this.#fill(4)) return null;
    const value = this.#window.readUInt32LE(this.#offset - this.#windowOffset);
    this.#offset += 4;
    return value;
  }

  u64(): number | null {
    if (!this.#holds(8) && !this.#fill(8)) return null;
    const value = readLength(this.#window, this.#offset - this.#windowOffset);
    this.#offset += 8;
    return value;
  }

  name(): string | null {
    const length = this.u64();
    if (length === null || length > MAX_NAME_BYTES) return null;
    if (!this.#holds(length) && !this.#fill(length)) return null;
    const at = this.#offset - this.#windowOffset;
    this.#offset += length;
    return this.#window.toString('latin1', at, at + length);
  }

  /** False when the file has not got as many bytes. */
  skip(length: number): boolean {
    const end = this.#offset + length;
    if (!(end <= this.#reader.sizeBytes)) return false;
    this.#offset = end;
    return true;
  }

  /** False when the file ends before. A vocabulary has a million of them. */
  skipStrings(count: number): boolean {
    for (let done = 0; done < count; done += 1) {
      if (!this.#holds(8) && !this.#fill(8)) return false;
      const length = readLength(this.#window, this.#offset - this.#windowOffset);
      this.#offset += 8;
      if (!this.skip(length)) return false;
    }
    return true;
  }

  #holds(length: number): boolean {
    return this.#offset + length <= this.#windowOffset + this.#window.length;
  }

  #fill(length: number): boolean {
    const wanted = Math.min(CURSOR_BYTES, this.#reader.sizeBytes - this.#offset);
    const window = wanted < length ? null : this.#reader.read(this.#offset, wanted);
    if (window === null) return false;
    this.#window = window;
    this.#windowOffset = this.#offset;
    return true;
  }
}
