import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import type { Codec } from '@dumont/shared/format/pack.ts';
import { PLANES_HEADER_BYTES, planesLayout } from '@dumont/shared/format/planes.ts';
import { zstdWrap } from '@dumont/shared/format/zstd-frame.ts';
import { assert, assertNever, must } from '@dumont/shared/util/assert.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { releaseBuffers } from '../../workers/release-buffers.ts';
import { chunkIdOf, openFrame, sealFrame, type StoreSecrets } from '../seal.ts';
import type { ElementBytes } from '../tensor/tensor-span.ts';
import { chooseCodec, chooseDelta, type CodecChoice, type PlanesChoice } from './choose-codec.ts';
import { decodeChunk } from './chunk-decoder.ts';
import { CodecKernel } from './codec-kernel.ts';
import { FrameBuilder } from './frame-builder.ts';
import { compressZstd } from './zstd.ts';

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

/** A difference is not worth its second chunk on restoring when the chunk is small. */
const MIN_DELTA_BYTES = 64 * 1024;

/** What is around the content of any frame: a header, 33 block sizes, an end; and the seal of an encrypted store. */
const MAX_AROUND_BYTES = PLANES_HEADER_BYTES + 192 + 64;

/** Most bytes the frame of a chunk of `rawLength` bytes takes. */
export function maxFrameBytes(rawLength: number): number {
  return rawLength + MAX_AROUND_BYTES;
}

/** A frame not yet put together: views that hold until the kernel is used again. */
interface Encoding {
  readonly pieces: readonly Uint8Array[];
  readonly codec: Codec;
}

/** Turns chunks into frames and back on the thread it is called on. Not for two threads at once. */
export class ChunkCoder {
  readonly #kernel = new CodecKernel();
  readonly #options: CodingOptions;

  constructor(options: CodingOptions) {
    this.#options = options;
  }

  /**
   * @param raw 1 byte to 4 MiB; not retained
   * @returns the frame as it is stored, sealed when the store is encrypted; codec `delta` only when a base was given
   */
  encode(raw: Uint8Array, hint: ChunkHint = {}): EncodedChunk {
    const { pieces, codec } = this.#encode(raw, hint);
    const frame = Buffer.allocUnsafeSlow(lengthOf(pieces));
    copyPieces(pieces, frame, 0);
    return { frame, codec };
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
    assert(target.length - at >= maxFrameBytes(raw.length), 'the target has room for any frame of the chunk');
    const { pieces, codec } = this.#encode(raw, hint);
    return { length: copyPieces(pieces, target, at) - at, codec };
  }

  /**
   * The raw bytes of a chunk from its frame, checked against its id.
   * @param base raw bytes of the base, for codec `delta`
   * @returns possibly a view into `frame`
   * @throws {DumontError} CORRUPT when the frame does not hold exactly this chunk in this codec
   */
  decode(stored: Uint8Array, expected: ExpectedChunk, base?: Uint8Array): Uint8Array {
    const raw = this.decodeView(stored, expected, base);
    if (!this.#kernel.owns(raw)) return raw;
    const copy = Buffer.allocUnsafeSlow(raw.length);
    copy.set(raw);
    return copy;
  }

  /** {@link decode} without a last copy: what it returns holds until the coder is used again. */
  decodeView(stored: Uint8Array, expected: ExpectedChunk, base?: Uint8Array): Uint8Array {
    const { secrets } = this.#options;
    const raw = decodeChunk(openFrame(stored, secrets), expected, { kernel: this.#kernel, base });
    if (chunkIdOf(raw, secrets) !== expected.chunkId) {
      throw new DumontError('CORRUPT', `the stored bytes of chunk ${expected.chunkId} are not what the id says`);
    }
    return raw;
  }

  #encode(raw: Uint8Array, hint: ChunkHint): Encoding {
    assert(raw.length >= 1 && raw.length <= MAX_FRAME_RAW_BYTES, 'a chunk is 1 byte to 4 MiB');
    const encoding = this.#encodeOpen(raw, hint);
    const { secrets } = this.#options;
    if (secrets === null) return encoding;
    return { pieces: [sealFrame(Buffer.concat(encoding.pieces), secrets)], codec: encoding.codec };
  }

  #encodeOpen(raw: Uint8Array, { elementBytes, base }: ChunkHint): Encoding {
    const choice = chooseCodec(raw, this.#kernel, { effort: this.#options.effort, elementBytes });
    const delta = base === undefined ? null : this.#encodeDelta(raw, base, { elementBytes, plainCost: choice.cost });
    return delta ?? this.#encodeAs(choice, raw);
  }

  #encodeAs(choice: CodecChoice, raw: Uint8Array): Encoding {
    switch (choice.kind) {
      case 'stored':
        return this.#encodeStored(raw);
      case 'lz4':
        return this.#encodeLz4(raw);
      case 'zstd':
        return this.#encodeZstd(raw, { raw, codec: 'zstd', matches: true });
      case 'lanes-zstd': {
        const layout = must(planesLayout(raw.length, choice.shape), 'lanes are chosen for chunks of many words only');
        this.#kernel.load(raw);
        const content = this.#kernel.split(raw.length, choice.shape, layout);
        return this.#encodeZstd(content, { raw, codec: 'lanes-zstd', matches: choice.matches });
      }
      case 'planes':
        this.#kernel.load(raw);
        return { pieces: this.#encodePlanes(raw.length, choice), codec: 'planes' };
      default:
        return assertNever(choice);
    }
  }

  #encodeStored(raw: Uint8Array): Encoding {
    const builder = new FrameBuilder(this.#kernel, raw.length);
    builder.addStored(raw);
    return { pieces: builder.finish(this.#kernel.xxh32(this.#kernel.load(raw))), codec: 'stored' };
  }

  #encodeLz4(raw: Uint8Array): Encoding {
    const view = this.#kernel.load(raw);
    const builder = new FrameBuilder(this.#kernel, raw.length);
    const codec = builder.addPacked(view);
    return { pieces: builder.finish(this.#kernel.xxh32(view)), codec };
  }

  #encodeZstd(
    content: Uint8Array,
    { raw, codec, matches }: { readonly raw: Uint8Array; readonly codec: Codec; readonly matches: boolean },
  ): Encoding {
    const zstd = compressZstd(content, { matches });
    const isSmaller = zstd.length < raw.length;
    const packed = this.#kernel.frame.subarray(0, isSmaller ? zstd.length : 0);
    if (isSmaller) packed.set(zstd);
    releaseBuffers([zstd]);
    return isSmaller ? { pieces: [zstdWrap(packed.length), packed], codec } : this.#encodeStored(raw);
  }

  /** Of the chunk in the kernel. */
  #encodePlanes(rawLength: number, { shape, isCompressible }: PlanesChoice): readonly Uint8Array[] {
    const layout = must(planesLayout(rawLength, shape), 'planes are chosen for chunks of many words only');
    const content = this.#kernel.split(rawLength, shape, layout);
    const builder = new FrameBuilder(this.#kernel, content.length);
    let at = PLANES_HEADER_BYTES + layout.restBytes;
    builder.addStored(content.subarray(0, at));
    for (const segment of layout.segments) {
      const bytes = content.subarray(at, at + segment.length);
      if (isCompressible(segment)) builder.addPacked(bytes);
      else builder.addStored(bytes);
      at += segment.length;
    }
    return builder.finish(this.#kernel.xxh32(content));
  }

  /** Null when the chunk alone is about as small. */
  #encodeDelta(
    raw: Uint8Array,
    base: Uint8Array,
    known: { readonly elementBytes: ElementBytes | undefined; readonly plainCost: number },
  ): Encoding | null {
    if (raw.length < MIN_DELTA_BYTES || base.length !== raw.length) return null;
    const choice = chooseDelta({ raw, base }, this.#kernel, known);
    if (choice === null) return null;
    this.#kernel.load(raw);
    this.#kernel.xorWith(base);
    const pieces = this.#encodePlanes(raw.length, choice);
    // The sample may have misled.
    return lengthOf(pieces) < raw.length * known.plainCost ? { pieces, codec: 'delta' } : null;
  }
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

/** @returns where they end */
function copyPieces(pieces: readonly Uint8Array[], target: Uint8Array, start: number): number {
  let at = start;
  for (const piece of pieces) {
    target.set(piece, at);
    at += piece.length;
  }
  return at;
}
