import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import {
  encodePlanesHeader,
  PLANES_HEADER_BYTES,
  type PlanesLayout,
  type PlanesShape,
} from '@dumont/shared/format/planes.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import { assetBytes } from '../../node/assets.ts';

/** What planes-kernel.as.ts and lz4-kernel.as.ts export. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  splitLanes(source: number, words: number, lane0: number, lane1: number, ...lanes2And3: [number, number]): void;
  joinLanes(lanes: number, target: number, words: number): void;
  splitBits(lane: number, planes: number, words: number, origin: number): void;
  joinBits(planes: number, lane: number, words: number, origin: number): void;
  countLanes(source: number, length: number, table: number): void;
  xxh32(source: number, length: number): number;
  xor(target: number, other: number, length: number): void;
  decodeBlock(source: number, length: number, target: number, targetLength: number): number;
  encodeBlock(source: number, length: number, target: number, ...limitAndTable: [number, number]): number;
}

/** The part of the engine's global used here; its types come with those of browsers only. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

const PAGE_BYTES = 64 * 1024;
/** Of byte counts; the module's own constants lie before it. */
const COUNTS_AT = 8 * 1024;
/** Where the LZ4 encoder remembers positions, 64 KiB. */
const POSITIONS_AT = PAGE_BYTES;
/** Regions begin a page apart, and a little more, so that they do not fall on the same cache lines; it holds overshoot. */
const GAP_BYTES = PAGE_BYTES + 192;
const RAW_AT = 2 * PAGE_BYTES;
const CONTENT_AT = RAW_AT + MAX_FRAME_RAW_BYTES + GAP_BYTES;
const FRAME_AT = CONTENT_AT + MAX_FRAME_RAW_BYTES + GAP_BYTES;
/** A whole frame fits: what is around its blocks is less than a page. */
const FRAME_BYTES = MAX_FRAME_RAW_BYTES + PAGE_BYTES;
const MEMORY_BYTES = FRAME_AT + FRAME_BYTES + GAP_BYTES;
const LANES = 4;

/** Samples lie in the region of the content, which is free while a codec is chosen. */
const SAMPLE_AT = CONTENT_AT;
const MAX_SAMPLE_BYTES = 256 * 1024;
const OTHER_SAMPLE_AT = SAMPLE_AT + MAX_SAMPLE_BYTES + GAP_BYTES;
const SAMPLE_LANES_AT = OTHER_SAMPLE_AT + MAX_SAMPLE_BYTES + GAP_BYTES;

const MODULE = new WebAssembly.Module(assetBytes('codec-kernel.wasm'));

/**
 * The codecs' inner loops in WebAssembly SIMD, on 14 MiB of memory of their own: pages not written to take none. Three
 * regions hold a chunk (`raw`), the content of its frame and the frame. Methods replace what earlier ones left
 * there; views handed out hold until then. One per thread.
 */
export class CodecKernel {
  readonly #exports: Exports;
  readonly #memory: Buffer;
  /** Room for a frame: here blocks are packed, and from here unpacked. */
  readonly frame: Buffer;

  constructor() {
    this.#exports = new WebAssembly.Instance(MODULE, {}).exports as Exports;
    this.#memory = Buffer.from(this.#exports.memory.buffer);
    assert(this.#memory.length >= MEMORY_BYTES, 'the module has the memory it was built with');
    this.frame = this.#memory.subarray(FRAME_AT, FRAME_AT + FRAME_BYTES);
  }

  /** Whether bytes lie in this memory, where the next call may replace them. */
  owns(bytes: Uint8Array): boolean {
    return bytes.buffer === this.#memory.buffer;
  }

  /** Where a chunk lies or is put; a view. */
  raw(rawLength: number): Buffer {
    assert(rawLength <= MAX_FRAME_RAW_BYTES, 'a chunk is 4 MiB at most');
    return this.#memory.subarray(RAW_AT, RAW_AT + rawLength);
  }

  /** Where the content of a frame of planes lies or is put; a view. */
  content(rawLength: number): Buffer {
    assert(rawLength <= MAX_FRAME_RAW_BYTES, 'a chunk is 4 MiB at most');
    return this.#memory.subarray(CONTENT_AT, CONTENT_AT + PLANES_HEADER_BYTES + rawLength);
  }

  /** Copies a chunk in. @returns the copy, a view */
  load(raw: Uint8Array): Buffer {
    const view = this.raw(raw.length);
    view.set(raw);
    return view;
  }

  /** Replaces the chunk in {@link raw} by its difference to another of its length; overwrites the content. */
  xorWith(base: Uint8Array): void {
    this.content(base.length).set(base);
    this.#exports.xor(RAW_AT, CONTENT_AT, base.length);
  }

  /**
   * Takes the chunk in {@link raw} apart; overwrites the frame.
   * @returns the frame content: header, rest, then the segments of the layout; a view
   */
  split(rawLength: number, { leadBytes, origins }: PlanesShape, { words, restBytes }: PlanesLayout): Buffer {
    assert(restBytes + LANES * words === rawLength, 'the layout is of this chunk');
    const raw = this.raw(rawLength);
    const content = this.content(rawLength);
    content.set(encodePlanesHeader({ leadBytes, origins }));
    content.set(raw.subarray(0, leadBytes), PLANES_HEADER_BYTES);
    content.set(raw.subarray(leadBytes + LANES * words), PLANES_HEADER_BYTES + leadBytes);
    const lanesAt = CONTENT_AT + PLANES_HEADER_BYTES + restBytes;
    // Lanes that become planes go by way of the frame's region.
    const laneAt = (lane: number) => (origins[lane] === null ? lanesAt : FRAME_AT) + lane * words;
    this.#exports.splitLanes(RAW_AT + leadBytes, words, laneAt(0), laneAt(1), laneAt(2), laneAt(3));
    for (const [lane, origin] of origins.entries()) {
      if (origin !== null) this.#exports.splitBits(laneAt(lane), lanesAt + lane * words, words, origin);
    }
    return content;
  }

  /**
   * Puts a lane together from its planes, which lie at the start of {@link raw}.
   * @param at of the lane in the content
   */
  joinPlanes(at: number, words: number, origin: number): void {
    assert(at + words <= MAX_FRAME_RAW_BYTES + PLANES_HEADER_BYTES, 'a lane lies in the content');
    this.#exports.joinBits(RAW_AT, CONTENT_AT + at, words, origin);
  }

  /** Puts the chunk together from the content, whose lanes are whole. @returns the chunk, a view */
  join(leadBytes: number, { words, restBytes }: PlanesLayout): Buffer {
    const rawLength = restBytes + LANES * words;
    const raw = this.raw(rawLength);
    const restEnd = PLANES_HEADER_BYTES + restBytes;
    const content = this.content(rawLength);
    this.#exports.joinLanes(CONTENT_AT + restEnd, RAW_AT + leadBytes, words);
    raw.set(content.subarray(PLANES_HEADER_BYTES, PLANES_HEADER_BYTES + leadBytes));
    raw.set(content.subarray(PLANES_HEADER_BYTES + leadBytes, restEnd), leadBytes + LANES * words);
    return raw;
  }

  /**
   * Packs bytes of this memory as an LZ4 block into the frame.
   * @param at where in the frame it goes
   * @returns its length; 0 when it would not be shorter than the bytes are
   */
  packBlock(bytes: Uint8Array, at: number): number {
    assert(this.owns(bytes) && at + bytes.length <= FRAME_BYTES, 'a block goes from this memory into the frame');
    return this.#exports.encodeBlock(bytes.byteOffset, bytes.length, FRAME_AT + at, bytes.length, POSITIONS_AT);
  }

  /**
   * Unpacks an LZ4 block into `target`, of this memory; what follows the target is overwritten up to 64 bytes.
   * @returns false unless exactly `target.length` bytes come out
   */
  unpackBlock(block: Uint8Array, target: Buffer): boolean {
    assert(this.owns(target) && block.length <= FRAME_BYTES, 'a block goes from the frame into this memory');
    this.frame.set(block);
    return this.#exports.decodeBlock(FRAME_AT, block.length, target.byteOffset, target.length) === 1;
  }

  /** XXH32 of bytes of this memory. */
  xxh32(bytes: Uint8Array): number {
    assert(this.owns(bytes), 'only its own memory can be hashed');
    return this.#exports.xxh32(bytes.byteOffset, bytes.length) >>> 0;
  }

  /** Copies windows in, end to end, for the methods below. @returns a view of them */
  sample(windows: readonly Uint8Array[]): Buffer {
    return this.#gather(windows, SAMPLE_AT);
  }

  /** Replaces the sample by its difference to as many other bytes. */
  xorSample(sample: Buffer, windows: readonly Uint8Array[]): void {
    const other = this.#gather(windows, OTHER_SAMPLE_AT);
    assert(other.length === sample.length, 'both samples are of the same places');
    this.#exports.xor(SAMPLE_AT, OTHER_SAMPLE_AT, sample.length);
  }

  /**
   * How often each byte value occurs in the sample shifted left by one bit, by position modulo 4: the bytes of lanes,
   * before it is known where words begin.
   */
  countLanes(sample: Buffer): readonly Uint32Array[] {
    this.#exports.countLanes(SAMPLE_AT, sample.length, COUNTS_AT);
    const table = new Uint32Array(this.#memory.buffer, COUNTS_AT, LANES * 256).slice();
    return Array.from({ length: LANES }, (_, position) => table.subarray(position * 256, (position + 1) * 256));
  }

  /** The lanes of the sample, when words begin after `leadBytes`; views. */
  sampleLanes(sample: Buffer, leadBytes: number): readonly Buffer[] {
    const words = Math.floor((sample.length - leadBytes) / 64) * 16;
    const laneAt = (lane: number) => SAMPLE_LANES_AT + lane * words;
    this.#exports.splitLanes(SAMPLE_AT + leadBytes, words, laneAt(0), laneAt(1), laneAt(2), laneAt(3));
    return Array.from({ length: LANES }, (_, lane) => this.#memory.subarray(laneAt(lane), laneAt(lane) + words));
  }

  #gather(windows: readonly Uint8Array[], start: number): Buffer {
    let at = start;
    for (const window of windows) {
      assert(at + window.length <= start + MAX_SAMPLE_BYTES, 'a sample is small');
      this.#memory.set(window, at);
      at += window.length;
    }
    return this.#memory.subarray(start, at);
  }
}
