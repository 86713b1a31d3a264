import { compressSync, uncompressSync } from 'lz4-napi';
import { joinFrame, parseFrame, writeFrame, type FrameBlock, type ParsedFrame } from '@dumont/shared/format/lz4-frame.ts';
import type { Codec } from '@dumont/shared/format/pack.ts';
import {
  decodePlanesHeader,
  encodePlanesHeader,
  PLANES_HEADER_BYTES,
  planesLayout,
  type PlanesShape,
} from '@dumont/shared/format/planes.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { chooseCodec, type CodecChoice } from './choose-codec.ts';
import { PlanesKernel } from './planes-kernel.ts';

/** lz4-napi puts the raw length before each block, 4 bytes little-endian. */
const PREFIX_BYTES = 4;

/** A chunk as it goes into a pack. */
export interface EncodedChunk {
  readonly frame: Uint8Array;
  readonly codec: Codec;
}

/** Turns chunks into frames and back on the thread it is called on. Not for two threads at once. */
export class ChunkCoder {
  readonly #kernel = new PlanesKernel();

  /** @param raw 1 byte to 4 MiB; not retained */
  encode(raw: Uint8Array): EncodedChunk {
    const choice = chooseCodec(raw, this.#kernel);
    switch (choice.kind) {
      case 'stored':
        return { frame: writeFrame(raw, null), codec: 'stored' };
      case 'lz4': {
        const block = compressBlock(raw);
        return { frame: writeFrame(raw, block), codec: block.length < raw.length ? 'lz4' : 'stored' };
      }
      case 'planes':
        return { frame: this.#encodePlanes(raw, choice), codec: 'planes' };
    }
  }

  /**
   * The raw bytes of a frame; nobody has compared them with the chunk's id yet.
   * @returns possibly a view into `frame`
   * @throws {DumontError} CORRUPT when the frame is not of this codec or holds another length
   */
  decode(frame: Uint8Array, expected: { readonly codec: Codec; readonly rawLength: number }): Uint8Array {
    const parsed = parseFrame(frame);
    if (parsed.frameLength !== frame.length) throw corrupt('bytes follow it');
    if (expected.codec === 'planes') return this.#decodePlanes(parsed, expected.rawLength);
    if (parsed.contentLength !== expected.rawLength) throw corrupt('it holds another length');
    const block = onlyBlock(parsed);
    if (block.stored !== (expected.codec === 'stored')) throw corrupt(`it is not ${expected.codec}`);
    return block.stored ? block.bytes : uncompressBlock(block.bytes, parsed.contentLength);
  }

  #encodePlanes(raw: Uint8Array, choice: Extract<CodecChoice, { kind: 'planes' }>): Uint8Array {
    const { shape } = choice;
    const layout = must(planesLayout(raw.length, shape), 'planes are chosen for chunks of many words only');
    const content = this.#kernel.split(raw, encodePlanesHeader(shape), { shape, layout });
    let at = PLANES_HEADER_BYTES + layout.restBytes;
    const blocks: FrameBlock[] = [{ bytes: content.subarray(0, at), stored: true }];
    for (const segment of layout.segments) {
      const bytes = content.subarray(at, at + segment.length);
      const block = choice.isCompressible(segment) ? compressBlock(bytes) : bytes;
      blocks.push(block.length < bytes.length ? { bytes: block, stored: false } : { bytes, stored: true });
      at += segment.length;
    }
    return joinFrame({ contentLength: content.length, contentChecksum: this.#kernel.xxh32(content), blocks });
  }

  #decodePlanes(frame: ParsedFrame, rawLength: number): Uint8Array {
    if (frame.contentLength !== rawLength + PLANES_HEADER_BYTES) throw corrupt('it holds another length');
    const [first, ...rest] = frame.blocks;
    if (first?.stored !== true) throw corrupt('its first block is not stored');
    const shape: PlanesShape = decodePlanesHeader(first.bytes.subarray(0, PLANES_HEADER_BYTES));
    const layout = planesLayout(rawLength, shape);
    if (layout === null) throw corrupt('it is too short for planes');
    if (first.bytes.length !== PLANES_HEADER_BYTES + layout.restBytes || rest.length !== layout.segments.length) {
      throw corrupt('its blocks are not those of its header');
    }
    const content = this.#kernel.content(rawLength);
    content.set(first.bytes, 0);
    let at = first.bytes.length;
    for (const [index, { length }] of layout.segments.entries()) {
      const { bytes, stored } = must(rest[index], 'there are as many blocks as segments');
      if (stored && bytes.length !== length) throw corrupt('a stored plane has another length');
      content.set(stored ? bytes : uncompressBlock(bytes, length), at);
      at += length;
    }
    return this.#kernel.join(shape, layout);
  }
}

/** The block of a frame that has one. @throws {DumontError} CORRUPT when it has more */
export function onlyBlock({ blocks }: ParsedFrame): FrameBlock {
  const [block, another] = blocks;
  if (block === undefined || another !== undefined) throw corrupt('it has more blocks than one');
  return block;
}

/** Bytes as one LZ4 block, possibly longer than they are. */
export function compressBlock(bytes: Uint8Array): Uint8Array {
  return compressSync(asBuffer(bytes)).subarray(PREFIX_BYTES);
}

/** Inverse of {@link compressBlock}. @throws {DumontError} CORRUPT unless exactly `rawLength` bytes come out */
export function uncompressBlock(block: Uint8Array, rawLength: number): Uint8Array {
  const prefixed = prefixBlock(block, rawLength);
  try {
    const bytes = uncompressSync(prefixed);
    if (bytes.length !== rawLength) throw new Error(`it unpacks to ${bytes.length} of ${rawLength} bytes`);
    return bytes;
  } catch (error) {
    throw new DumontError('CORRUPT', 'an LZ4 block does not unpack', { cause: error });
  }
}

function prefixBlock(block: Uint8Array, rawLength: number): Buffer {
  const prefixed = Buffer.allocUnsafe(PREFIX_BYTES + block.length);
  prefixed.writeUInt32LE(rawLength, 0);
  prefixed.set(block, PREFIX_BYTES);
  return prefixed;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `a frame is refused: ${why}`);
}
