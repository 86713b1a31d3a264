import { MAX_HEADER_PART_BYTES, readLength, type HeaderReader } from './header-reader.ts';
import { MAX_TENSORS, orderSpans, type TensorSpan } from './tensor-span.ts';

const LOCAL_SIGNATURE = 0x04034b50;
const ENTRY_SIGNATURE = 0x02014b50;
const END_SIGNATURE = 0x06054b50;
const END_64_SIGNATURE = 0x06064b50;
const LOCATOR_64_SIGNATURE = 0x07064b50;
const LOCAL_BYTES = 30;
const ENTRY_BYTES = 46;
const END_BYTES = 22;
const END_64_BYTES = 56;
const LOCATOR_64_BYTES = 20;
const MAX_COMMENT_BYTES = 0xffff;
/** A field that holds this has its value in a zip64 record. */
const SEE_64 = 0xffff_ffff;
const EXTRA_64 = 0x0001;

/** A smaller tensor lies in a group of them with their headers, so where exactly it begins need not be read. */
const MIN_EXACT_BYTES = 64 * 1024;

/** `archive/data/17`; `archive` is the name the file was saved under. */
const TENSOR_NAME = /^[^/]+\/data\/\d+$/;
const PICKLE_NAME = /^[^/]+\/data\.pkl$/;

interface Directory {
  readonly offset: number;
  readonly length: number;
}

interface Member {
  readonly name: string;
  readonly isStored: boolean;
  readonly sizeBytes: number;
  /** Of the local header. */
  readonly offset: number;
}

/** True when a file that begins so may be one. */
export function looksLikeZip(start: Buffer): boolean {
  return start.readUInt32LE(0) === LOCAL_SIGNATURE;
}

/**
 * The tensors of what `torch.save` writes: a zip archive (PKWARE, APPNOTE.TXT) with a pickle and one stored member per
 * tensor, whose types only the pickle knows. Null for any other archive, and when a record is not where it should be.
 */
export function readTorchZip(reader: HeaderReader): readonly TensorSpan[] | null {
  const directory = findDirectory(reader);
  if (directory === null || directory.length > MAX_HEADER_PART_BYTES) return null;
  const bytes = reader.read(directory.offset, directory.length);
  const members = bytes === null ? null : parseDirectory(bytes);
  if (members === null || !members.some(({ name }) => PICKLE_NAME.test(name))) return null;
  const spans: TensorSpan[] = [];
  for (const member of members) {
    if (!member.isStored || !TENSOR_NAME.test(member.name)) continue;
    const span = locate(reader, member);
    if (span === null || span.offset + span.length > directory.offset) return null;
    spans.push(span);
  }
  return orderSpans(spans, reader.sizeBytes);
}

/** True when the file has the directory that a zip ends with: it is written last. */
export function endsAsZip(reader: HeaderReader): boolean {
  return findDirectory(reader) !== null;
}

/** The end record lies before a comment of any length, which torch leaves empty. */
function findDirectory(reader: HeaderReader): Directory | null {
  const tailBytes = Math.min(reader.sizeBytes, END_BYTES + MAX_COMMENT_BYTES);
  const tailOffset = reader.sizeBytes - tailBytes;
  const tail = reader.read(tailOffset, tailBytes);
  if (tail === null) return null;
  let at = tailBytes - END_BYTES;
  while (
    at >= 0 &&
    !(tail.readUInt32LE(at) === END_SIGNATURE && tail.readUInt16LE(at + 20) === tailBytes - END_BYTES - at)
  )
    at -= 1;
  if (at < 0) return null;
  const length = tail.readUInt32LE(at + 12);
  const offset = tail.readUInt32LE(at + 16);
  const locatorAt = at - LOCATOR_64_BYTES;
  if (locatorAt < 0 || tail.readUInt32LE(locatorAt) !== LOCATOR_64_SIGNATURE) {
    return within({ offset, length }, tailOffset + at);
  }
  const end64Offset = readLength(tail, locatorAt + 8);
  const end64 = reader.read(end64Offset, END_64_BYTES);
  if (end64 === null || end64.readUInt32LE(0) !== END_64_SIGNATURE) return null;
  return within({ offset: readLength(end64, 48), length: readLength(end64, 40) }, end64Offset);
}

function within(directory: Directory, end: number): Directory | null {
  return directory.offset + directory.length <= end ? directory : null;
}

function parseDirectory(bytes: Buffer): readonly Member[] | null {
  const members: Member[] = [];
  for (let at = 0; at < bytes.length;) {
    if (at + ENTRY_BYTES > bytes.length || bytes.readUInt32LE(at) !== ENTRY_SIGNATURE) return null;
    const nameEnd = at + ENTRY_BYTES + bytes.readUInt16LE(at + 28);
    const extraEnd = nameEnd + bytes.readUInt16LE(at + 30);
    const next = extraEnd + bytes.readUInt16LE(at + 32);
    if (next > bytes.length || members.length === MAX_TENSORS) return null;
    const extra = new Extra64(bytes.subarray(nameEnd, extraEnd));
    // The record holds the values that did not fit, in this order.
    const rawBytes = extra.resolve(bytes.readUInt32LE(at + 24));
    const storedBytes = extra.resolve(bytes.readUInt32LE(at + 20));
    members.push({
      name: bytes.toString('latin1', at + ENTRY_BYTES, nameEnd),
      isStored: bytes.readUInt16LE(at + 10) === 0 && rawBytes === storedBytes,
      sizeBytes: storedBytes,
      offset: extra.resolve(bytes.readUInt32LE(at + 42)),
    });
    at = next;
  }
  return members;
}

/** The 64-bit values of a directory entry, taken one after the other. */
class Extra64 {
  #values: Buffer = Buffer.alloc(0);

  constructor(extra: Buffer) {
    for (let at = 0; at + 4 <= extra.length;) {
      const end = at + 4 + extra.readUInt16LE(at + 2);
      if (extra.readUInt16LE(at) === EXTRA_64) this.#values = extra.subarray(at + 4, end);
      at = end;
    }
  }

  /** The value of a field that may say to look here; Infinity when nothing is left here. */
  resolve(field: number): number {
    if (field !== SEE_64) return field;
    if (this.#values.length < 8) return Number.POSITIVE_INFINITY;
    const value = readLength(this.#values, 0);
    this.#values = this.#values.subarray(8);
    return value;
  }
}

/** Where a member's bytes lie: its local header has a length of its own. Null when there is none. */
function locate(reader: HeaderReader, member: Member): TensorSpan | null {
  const { offset, sizeBytes } = member;
  if (sizeBytes < MIN_EXACT_BYTES) return { offset, length: LOCAL_BYTES + member.name.length + sizeBytes };
  const local = reader.read(offset, LOCAL_BYTES);
  if (local === null || local.readUInt32LE(0) !== LOCAL_SIGNATURE) return null;
  return { offset: offset + LOCAL_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28), length: sizeBytes };
}
