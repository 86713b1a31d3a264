import { MAX_HEADER_PART_BYTES, readLength, type HeaderReader } from './header-reader.ts';
import { MAX_TENSORS, orderSpans, type ElementBytes, type TensorSpan } from './tensor-span.ts';

/** Length of the header's length. */
const PREFIX_BYTES = 8;
const OPEN_BRACE = 0x7b;

/** Types of less than a byte are left out. */
const ELEMENT_BYTES: ReadonlyMap<string, ElementBytes> = new Map([
  ...['BOOL', 'U8', 'I8', 'F8_E5M2', 'F8_E4M3', 'F8_E8M0'].map((type) => [type, 1] as const),
  ...['U16', 'I16', 'F16', 'BF16'].map((type) => [type, 2] as const),
  ...['U32', 'I32', 'F32'].map((type) => [type, 4] as const),
  ...['U64', 'I64', 'F64'].map((type) => [type, 8] as const),
]);

/** True when a file that begins so may be one. */
export function looksLikeSafetensors(start: Buffer, sizeBytes: number): boolean {
  const headerBytes = readLength(start, 0);
  return headerBytes >= 2 && PREFIX_BYTES + headerBytes <= sizeBytes && start[PREFIX_BYTES] === OPEN_BRACE;
}

/**
 * The tensors of a safetensors file: an 8-byte length, then as many bytes of JSON, then the data
 * (github.com/huggingface/safetensors, README, "Format"). Null when the header is not valid.
 */
export function readSafetensors(reader: HeaderReader): readonly TensorSpan[] | null {
  const prefix = reader.read(0, PREFIX_BYTES);
  const headerBytes = prefix === null ? Number.POSITIVE_INFINITY : readLength(prefix, 0);
  if (headerBytes > MAX_HEADER_PART_BYTES) return null;
  const header = reader.read(PREFIX_BYTES, headerBytes);
  if (header === null) return null;
  const spans = parseHeader(new HeaderScanner(header), PREFIX_BYTES + headerBytes);
  return spans === null ? null : orderSpans(spans, reader.sizeBytes);
}

/** `{ "name": { "dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12] }, …, "__metadata__": { "key": "value" } }` */
function parseHeader(scan: HeaderScanner, dataOffset: number): readonly TensorSpan[] | null {
  const spans: TensorSpan[] = [];
  scan.object((name) => {
    if (name === '__metadata__') scan.object(() => void scan.string());
    else spans.push(parseTensor(scan, dataOffset));
    if (spans.length > MAX_TENSORS) scan.fail();
  });
  return scan.endsWell() ? spans : null;
}

function parseTensor(scan: HeaderScanner, dataOffset: number): TensorSpan {
  let dtype = '';
  let elementCount = 1;
  let begin = Number.NaN;
  let end = Number.NaN;
  scan.object((key) => {
    if (key === 'dtype') dtype = scan.string();
    else if (key === 'shape') elementCount = scan.integers().reduce((product, length) => product * length, 1);
    else if (key === 'data_offsets') [begin = Number.NaN, end = Number.NaN] = scan.integers();
    else scan.fail();
  });
  const elementBytes = ELEMENT_BYTES.get(dtype);
  const length = end - begin;
  if (!(length >= 0) || (elementBytes !== undefined && elementBytes * elementCount !== length)) scan.fail();
  return { offset: dataOffset + begin, length, elementBytes };
}

/**
 * Reads the little JSON such a header may hold, in place: objects of known depth, strings, arrays of whole numbers. What
 * it costs is bounded by the header's length, whatever is in there. After the first failure it yields nothing more.
 */
class HeaderScanner {
  readonly #bytes: Buffer;
  #at = 0;
  #failed = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  fail(): void {
    this.#failed = true;
  }

  /** True when all was as expected and only spaces follow. */
  endsWell(): boolean {
    this.#skipSpaces();
    return !this.#failed && this.#at === this.#bytes.length;
  }

  /** Calls `onKey` to read the value of each key. */
  object(onKey: (key: string) => void): void {
    this.#list('{', '}', () => {
      const key = this.string();
      this.#expect(':');
      if (!this.#failed) onKey(key);
    });
  }

  integers(): readonly number[] {
    const values: number[] = [];
    this.#list('[', ']', () => values.push(this.#integer()));
    return values;
  }

  /** The text between the quotes, escapes as they stand; empty when longer than any word that matters. */
  string(): string {
    this.#expect('"');
    const start = this.#at;
    for (; this.#at < this.#bytes.length && !this.#failed; this.#at += 1) {
      const byte = this.#bytes[this.#at];
      if (byte === 0x5c) this.#at += 1;
      else if (byte === 0x22) {
        this.#at += 1;
        return this.#at - start > 32 ? '' : this.#bytes.toString('latin1', start, this.#at - 1);
      }
    }
    this.fail();
    return '';
  }

  #list(open: string, close: string, readItem: () => void): void {
    this.#expect(open);
    if (this.#accept(close)) return;
    do readItem();
    while (!this.#failed && this.#accept(','));
    this.#expect(close);
  }

  #integer(): number {
    this.#skipSpaces();
    const start = this.#at;
    let value = 0;
    for (; ; this.#at += 1) {
      const digit = (this.#bytes[this.#at] ?? 0) - 0x30;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    if (this.#at === start || !Number.isSafeInteger(value)) this.fail();
    return value;
  }

  #expect(character: string): void {
    if (!this.#accept(character)) this.fail();
  }

  #accept(character: string): boolean {
    this.#skipSpaces();
    if (this.#bytes[this.#at] !== character.charCodeAt(0)) return false;
    this.#at += 1;
    return true;
  }

  #skipSpaces(): void {
    for (; ; this.#at += 1) {
      const byte = this.#bytes[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
    }
  }
}
