import type { ByteSource } from './byte-source.ts';
import { MIN_CHUNK_BYTES } from './cdc/cut-window.ts';
import type { Segment } from './chunker.ts';
import { looksLikeGguf, readGguf } from './tensor/gguf.ts';
import { HeaderReader } from './tensor/header-reader.ts';
import { looksLikeSafetensors, readSafetensors } from './tensor/safetensors.ts';
import type { TensorSpan } from './tensor/tensor-span.ts';
import { looksLikeZip, readTorchZip } from './tensor/torch-zip.ts';

/** Smaller tensors are grouped up to this length, so that a chunk is worth its row in the manifest. */
const GROUP_BYTES = 1024 * 1024;
/** Enough of a file to tell its format by. */
const START_BYTES = 16;

/**
 * Where the tensors of a file lie, ascending; null for a file without, and for one whose header is broken, hostile or
 * larger than what is looked at: it is then cut by its content like any other. What the file is called does not matter.
 * @param scratch overwritten; 8 MiB at least
 */
export function findTensors(source: ByteSource, scratch: Buffer): readonly TensorSpan[] | null {
  if (source.sizeBytes <= MIN_CHUNK_BYTES) return null;
  const reader = new HeaderReader(source, scratch);
  const start = reader.read(0, START_BYTES);
  if (start === null) return null;
  if (looksLikeZip(start)) return readTorchZip(reader);
  if (looksLikeGguf(start)) return readGguf(reader);
  if (looksLikeSafetensors(start, source.sizeBytes)) return readSafetensors(reader);
  return null;
}

/**
 * How a file is cut, given its tensors: a large tensor by itself, small neighbours together, and what lies before the
 * first tensor by its content. A tensor's chunks thus depend on its own bytes alone, wherever it moves to. Pure.
 */
export function* planSegments(sizeBytes: number, tensors: readonly TensorSpan[] | null): Generator<Segment> {
  let group: Segment | undefined;
  for (const part of partsOf(sizeBytes, tensors ?? [])) {
    if (group !== undefined && group.length + part.length > GROUP_BYTES) {
      yield group;
      group = undefined;
    }
    if (part.offset === 0 || part.length > GROUP_BYTES) yield part;
    else group = group === undefined ? part : join(group, part);
  }
  if (group !== undefined) yield group;
}

/** Tensors and what lies between them. */
function* partsOf(sizeBytes: number, tensors: readonly TensorSpan[]): Generator<Segment> {
  let at = 0;
  for (const { offset, length, elementBytes } of tensors) {
    if (offset > at) yield { offset: at, length: offset - at, cut: 'content' };
    yield { offset, length, cut: 'fixed', elementBytes };
    at = offset + length;
  }
  if (sizeBytes > at) yield { offset: at, length: sizeBytes - at, cut: 'content' };
}

/** Two neighbours as one; numbers of one size stay known as such where they stay aligned. */
function join(group: Segment, part: Segment): Segment {
  const bytes = group.elementBytes;
  const isPadding = part.cut === 'content';
  const known = bytes !== undefined && (isPadding || part.elementBytes === bytes) && group.length % bytes === 0;
  const joined: Segment = { offset: group.offset, length: group.length + part.length, cut: 'fixed' };
  return known ? { ...joined, elementBytes: bytes } : joined;
}
