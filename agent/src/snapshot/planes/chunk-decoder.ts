import { onlyBlock, parseFrame, type FrameBlock, type ParsedFrame } from '@dumont/shared/format/lz4-frame.ts';
import {
  decodePlanesHeader,
  PLANES_HEADER_BYTES,
  planesLayout,
  type PlanesLayout,
  type PlanesShape,
} from '@dumont/shared/format/planes.ts';
import { parseZstdWrap } from '@dumont/shared/format/zstd-frame.ts';
import { assertNever, must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { releaseBuffers } from '../../workers/release-buffers.ts';
import type { ExpectedChunk } from './chunk-coder.ts';
import type { CodecKernel } from './codec-kernel.ts';
import { decompressZstd } from './zstd.ts';

/**
 * The raw bytes of a chunk from its opened frame; whether they have its id is the caller's to check.
 * @param base raw bytes of the base, for codec `delta`
 * @returns a view of `frame` or of the kernel's memory
 * @throws {DumontError} CORRUPT when the frame is not one of that codec and length
 */
export function decodeChunk(
  frame: Uint8Array,
  { codec, rawLength }: ExpectedChunk,
  { kernel, base }: { readonly kernel: CodecKernel; readonly base: Uint8Array | undefined },
): Uint8Array {
  switch (codec) {
    case 'zstd':
      return decodeZstd(parseZstdWrap(frame), rawLength, kernel);
    case 'lanes-zstd':
      return decodeLanes(parseZstdWrap(frame), rawLength, kernel);
    case 'stored':
    case 'lz4':
      return decodeOnlyBlock(parseWhole(frame, rawLength), { isStored: codec === 'stored', rawLength, kernel });
    case 'planes':
      return decodePlanes(parseWhole(frame, rawLength + PLANES_HEADER_BYTES), rawLength, kernel);
    case 'delta': {
      if (base?.length !== rawLength) throw corrupt('it is a difference to a chunk of another length');
      const raw = decodePlanes(parseWhole(frame, rawLength + PLANES_HEADER_BYTES), rawLength, kernel);
      kernel.xorWith(base);
      return raw;
    }
    default:
      return assertNever(codec);
  }
}

function parseWhole(bytes: Uint8Array, contentLength: number): ParsedFrame {
  const frame = parseFrame(bytes);
  if (frame.frameLength !== bytes.length) throw corrupt('bytes follow it');
  if (frame.contentLength !== contentLength) throw corrupt('it holds another length');
  return frame;
}

interface BlockOptions {
  readonly isStored: boolean;
  readonly rawLength: number;
  readonly kernel: CodecKernel;
}

function decodeOnlyBlock(frame: ParsedFrame, { isStored, rawLength, kernel }: BlockOptions): Uint8Array {
  const block = onlyBlock(frame);
  if (block.stored !== isStored) throw corrupt('its block is not of its codec');
  if (isStored) return block.bytes;
  const raw = kernel.raw(rawLength);
  unpack(block, raw, kernel);
  return raw;
}

function decodePlanes(frame: ParsedFrame, rawLength: number, kernel: CodecKernel): Uint8Array {
  const [first, ...rest] = frame.blocks;
  if (first?.stored !== true) throw corrupt('its first block is not stored');
  const { shape, layout } = parseHeader(first.bytes, rawLength);
  if (first.bytes.length !== PLANES_HEADER_BYTES + layout.restBytes || rest.length !== layout.segments.length) {
    throw corrupt('its blocks are not those of its header');
  }
  const content = kernel.content(rawLength);
  content.set(first.bytes, 0);
  const lanesAt = first.bytes.length;
  // The planes of a lane are gathered where the chunk will come, and become the lane in the content.
  const planes = kernel.raw(layout.words);
  for (const [index, { lane, bit, length }] of layout.segments.entries()) {
    const block = must(rest[index], 'there are as many blocks as segments');
    const laneAt = lanesAt + lane * layout.words;
    if (bit === null) {
      unpack(block, content.subarray(laneAt, laneAt + length), kernel);
      continue;
    }
    unpack(block, planes.subarray((7 - bit) * length, (8 - bit) * length), kernel);
    if (bit === 0)
      kernel.joinPlanes(laneAt, layout.words, must(shape.origins[lane], 'a lane in planes has its origin'));
  }
  return kernel.join(shape.leadBytes, layout);
}

// Both copy to the kernel what zlib gives, to free it at once.
function decodeZstd(zstd: Uint8Array, rawLength: number, kernel: CodecKernel): Uint8Array {
  const unpacked = decompressZstd(zstd, rawLength);
  const raw = kernel.load(unpacked);
  releaseBuffers([unpacked]);
  return raw;
}

function decodeLanes(zstd: Uint8Array, rawLength: number, kernel: CodecKernel): Uint8Array {
  const content = decompressZstd(zstd, PLANES_HEADER_BYTES + rawLength);
  const { shape, layout } = parseHeader(content, rawLength);
  if (shape.origins.some((origin) => origin !== null)) throw corrupt('a lane of it is in planes');
  kernel.content(rawLength).set(content);
  releaseBuffers([content]);
  return kernel.join(shape.leadBytes, layout);
}

function parseHeader(content: Uint8Array, rawLength: number): { shape: PlanesShape; layout: PlanesLayout } {
  const shape = decodePlanesHeader(content.subarray(0, PLANES_HEADER_BYTES));
  const layout = planesLayout(rawLength, shape);
  if (layout === null) throw corrupt('it is too short for planes');
  return { shape, layout };
}

function unpack({ bytes, stored }: FrameBlock, target: Buffer, kernel: CodecKernel): void {
  if (!stored) {
    if (!kernel.unpackBlock(bytes, target)) throw corrupt('an LZ4 block does not unpack');
    return;
  }
  if (bytes.length !== target.length) throw corrupt('a stored plane has another length');
  target.set(bytes);
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `a frame is refused: ${why}`);
}
