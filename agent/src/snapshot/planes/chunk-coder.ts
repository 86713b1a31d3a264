import {
  joinFrame,
  onlyBlock,
  parseFrame,
  type FrameBlock,
  type ParsedFrame,
} from '@dumont/shared/format/lz4-frame.ts';
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
import { compressBlock, uncompressBlock } from '../lz4-block.ts';
import { chunkIdOf, openFrame, sealFrame, type StoreSecrets } from '../seal.ts';
import type { ElementBytes } from '../tensor/tensor-span.ts';
import { chooseCodec, type CodecChoice } from './choose-codec.ts';
import { PlanesKernel } from './planes-kernel.ts';

/** A chunk as it goes into a pack. */
export interface EncodedChunk {
  readonly frame: Uint8Array;
  readonly codec: Codec;
}

/** What the chunk table says of a chunk, and its frame must hold. */
export interface ExpectedChunk {
  readonly chunkId: string;
  readonly codec: Codec;
  /** 1 byte to 4 MiB. */
  readonly rawLength: number;
}

/** How a store's chunks are coded; a plain object, so that it can be given to a thread. */
export interface CodingOptions {
  readonly secrets: StoreSecrets | null;
  /** `small` may use Zstandard, which saves more bytes and costs more time; `fast` stays with LZ4. */
  readonly effort: 'fast' | 'small';
}

/** What is known of a chunk besides its bytes. */
export interface ChunkHint {
  /** It is an array of numbers of that many bytes each. */
  readonly elementBytes?: ElementBytes | undefined;
  /** Bytes of a stored chunk of the same length that it may resemble, such as its place in the last checkpoint. */
  readonly base?: Uint8Array | undefined;
}

/** Most bytes a frame has around or above its raw bytes: blocks of planes, the header, the seal. */
const MAX_AROUND_BYTES = 1_024;

/** Most bytes the stored frame of a chunk has. */
export function maxFrameBytes(rawLength: number): number {
  return rawLength + MAX_AROUND_BYTES;
}

/** Turns chunks into frames and back on the thread it is called on. Not for two threads at once. */
export class ChunkCoder {
  readonly #kernel = new PlanesKernel();
  readonly #options: CodingOptions;

  constructor(options: CodingOptions) {
    this.#options = options;
  }

  /**
   * @param raw 1 byte to 4 MiB; not retained
   * @returns the frame as it is stored, sealed when the store is encrypted; codec `delta` only when a base was given
   */
  encode(raw: Uint8Array, _hint: ChunkHint = {}): EncodedChunk {
    const { frame, codec } = this.#encode(raw);
    return { frame: sealFrame(frame, this.#options.secrets), codec };
  }

  /**
   * {@link encode}, with the frame written into `target` from `at` on, which has room for {@link maxFrameBytes}.
   * @returns the length of the frame
   */
  encodeInto(
    raw: Uint8Array,
    hint: ChunkHint,
    target: Uint8Array,
    at: number,
  ): { readonly length: number; readonly codec: Codec } {
    const { frame, codec } = this.encode(raw, hint);
    target.set(frame, at);
    return { length: frame.length, codec };
  }

  #encode(raw: Uint8Array): EncodedChunk {
    const choice = chooseCodec(raw, this.#kernel);
    switch (choice.kind) {
      case 'stored':
        return this.#frameOf(raw, null);
      case 'lz4':
        return this.#frameOf(raw, compressBlock(raw));
      case 'planes':
        return { frame: this.#encodePlanes(raw, choice), codec: 'planes' };
    }
  }

  /**
   * The raw bytes of a chunk from its frame, checked against its id.
   * @param base raw bytes of the base, for codec `delta`
   * @returns possibly a view into `frame`
   * @throws {DumontError} CORRUPT when the frame does not hold exactly this chunk in this codec
   */
  decode(stored: Uint8Array, expected: ExpectedChunk, _base?: Uint8Array): Uint8Array {
    const { secrets } = this.#options;
    const frame = openFrame(stored, secrets);
    const parsed = parseFrame(frame);
    if (parsed.frameLength !== frame.length) throw corrupt('bytes follow it');
    const raw =
      expected.codec === 'planes' ? this.#decodePlanes(parsed, expected.rawLength) : decodeBlock(parsed, expected);
    if (chunkIdOf(raw, secrets) !== expected.chunkId) {
      throw new DumontError('CORRUPT', `the stored bytes of chunk ${expected.chunkId} are not what the id says`);
    }
    return raw;
  }

  #frameOf(raw: Uint8Array, block: Uint8Array | null): EncodedChunk {
    const isStored = block === null || block.length >= raw.length;
    const blocks = [{ bytes: isStored ? raw : block, stored: isStored }];
    const contentChecksum = this.#kernel.xxh32(this.#kernel.load([raw]));
    return {
      frame: joinFrame({ contentLength: raw.length, contentChecksum, blocks }),
      codec: isStored ? 'stored' : 'lz4',
    };
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

function decodeBlock(frame: ParsedFrame, { codec, rawLength }: ExpectedChunk): Uint8Array {
  if (frame.contentLength !== rawLength) throw corrupt('it holds another length');
  const { bytes, stored } = onlyBlock(frame);
  if (stored !== (codec === 'stored')) throw corrupt(`it is not ${codec}`);
  return stored ? bytes : uncompressBlock(bytes, rawLength);
}

function corrupt(why: string): DumontError {
  return new DumontError('CORRUPT', `a frame is refused: ${why}`);
}
