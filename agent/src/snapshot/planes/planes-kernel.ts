import { readFileSync } from 'node:fs';
import { MAX_FRAME_RAW_BYTES } from '@dumont/shared/format/lz4-frame.ts';
import { PLANES_HEADER_BYTES, type PlanesLayout, type PlanesShape } from '@dumont/shared/format/planes.ts';
import { assert } from '@dumont/shared/util/assert.ts';

/** What planes-kernel.as exports. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer; grow(pages: number): number };
  splitLanes(source: number, lanes: number, words: number): void;
  joinLanes(lanes: number, target: number, words: number): void;
  splitBits(lane: number, planes: number, words: number, origin: number): void;
  joinBits(planes: number, lane: number, words: number, origin: number): void;
  countLanes(source: number, length: number, table: number): void;
  xxh32(source: number, length: number): number;
}

/** The part of the engine's global used here; its types come with those of browsers only. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

const PAGE_BYTES = 64 * 1024;
const TABLE_AT = 1024;
/** Regions begin a page apart, and a little more, so that they do not fall on the same cache lines. */
const GAP_BYTES = PAGE_BYTES + 192;
const RAW_AT = PAGE_BYTES;
const CONTENT_AT = RAW_AT + MAX_FRAME_RAW_BYTES + GAP_BYTES;
const LANE_AT = CONTENT_AT + MAX_FRAME_RAW_BYTES + GAP_BYTES;
const MEMORY_BYTES = LANE_AT + MAX_FRAME_RAW_BYTES / 4 + GAP_BYTES;
const LANES = 4;

/**
 * The plane transform on memory of its own, 9 MiB of it, in WebAssembly SIMD. Every call replaces what the one before
 * left in that memory: views handed out hold until the next call. One per thread.
 */
export class PlanesKernel {
  readonly #exports: Exports;
  readonly #memory: Buffer;

  constructor() {
    const module = new WebAssembly.Module(readFileSync(new URL('./planes-kernel.wasm', import.meta.url)));
    this.#exports = new WebAssembly.Instance(module, {}).exports as Exports;
    const { memory } = this.#exports;
    memory.grow(Math.ceil((MEMORY_BYTES - memory.buffer.byteLength) / PAGE_BYTES));
    this.#memory = Buffer.from(memory.buffer);
  }

  /**
   * Takes a chunk apart.
   * @returns the frame content: header, rest, then the segments of the layout; a view
   */
  split(raw: Uint8Array, header: Uint8Array, plan: { readonly shape: PlanesShape; readonly layout: PlanesLayout }) {
    const { words, restBytes } = plan.layout;
    const { leadBytes, origins } = plan.shape;
    assert(raw.length <= MAX_FRAME_RAW_BYTES && restBytes + 4 * words === raw.length, 'the layout is of this chunk');
    this.#memory.set(raw, RAW_AT);
    this.#memory.set(header, CONTENT_AT);
    const restAt = CONTENT_AT + PLANES_HEADER_BYTES;
    this.#memory.set(raw.subarray(0, leadBytes), restAt);
    this.#memory.set(raw.subarray(leadBytes + 4 * words), restAt + leadBytes);
    const lanesAt = restAt + restBytes;
    this.#exports.splitLanes(RAW_AT + leadBytes, lanesAt, words);
    for (const [lane, origin] of origins.entries()) {
      if (origin === null) continue;
      const laneAt = lanesAt + lane * words;
      this.#memory.copyWithin(LANE_AT, laneAt, laneAt + words);
      this.#exports.splitBits(LANE_AT, laneAt, words, origin);
    }
    return this.#memory.subarray(CONTENT_AT, lanesAt + LANES * words);
  }

  /** Where the content of a frame is to be put before {@link join}; a view. */
  content(rawLength: number): Buffer {
    assert(rawLength <= MAX_FRAME_RAW_BYTES, 'a chunk is 4 MiB at most');
    return this.#memory.subarray(CONTENT_AT, CONTENT_AT + PLANES_HEADER_BYTES + rawLength);
  }

  /** Inverse of {@link split}, of what lies in {@link content}. @returns the chunk's bytes, a copy of their own */
  join(shape: PlanesShape, { words, restBytes }: PlanesLayout): Buffer {
    const { leadBytes, origins } = shape;
    const restAt = CONTENT_AT + PLANES_HEADER_BYTES;
    const lanesAt = restAt + restBytes;
    for (const [lane, origin] of origins.entries()) {
      if (origin === null) continue;
      const laneAt = lanesAt + lane * words;
      this.#exports.joinBits(laneAt, LANE_AT, words, origin);
      this.#memory.copyWithin(laneAt, LANE_AT, LANE_AT + words);
    }
    this.#exports.joinLanes(lanesAt, RAW_AT, words);
    const raw = Buffer.allocUnsafeSlow(restBytes + 4 * words);
    raw.set(this.#memory.subarray(restAt, restAt + leadBytes), 0);
    raw.set(this.#memory.subarray(RAW_AT, RAW_AT + 4 * words), leadBytes);
    raw.set(this.#memory.subarray(restAt + leadBytes, lanesAt), leadBytes + 4 * words);
    return raw;
  }

  /** Copies bytes in, end to end, 4 MiB at most, for the methods below. @returns a view of them */
  load(windows: readonly Uint8Array[]): Buffer {
    let at = RAW_AT;
    for (const window of windows) {
      assert(at + window.length <= RAW_AT + MAX_FRAME_RAW_BYTES, 'a chunk is 4 MiB at most');
      this.#memory.set(window, at);
      at += window.length;
    }
    return this.#memory.subarray(RAW_AT, at);
  }

  /**
   * How often each byte value occurs in the sample shifted left by one bit, by position modulo 4: the bytes of lanes,
   * before it is known where words begin.
   */
  countLanes(sample: Buffer): readonly Uint32Array[] {
    this.#exports.countLanes(RAW_AT, sample.length, TABLE_AT);
    const table = new Uint32Array(this.#memory.buffer, TABLE_AT, LANES * 256).slice();
    return Array.from({ length: LANES }, (_, position) => table.subarray(position * 256, (position + 1) * 256));
  }

  /** The lanes of the sample, when words begin after `leadBytes`; views. */
  sampleLanes(sample: Buffer, leadBytes: number): readonly Buffer[] {
    const words = Math.floor((sample.length - leadBytes) / 64) * 16;
    this.#exports.splitLanes(RAW_AT + leadBytes, CONTENT_AT, words);
    return Array.from({ length: LANES }, (_, lane) =>
      this.#memory.subarray(CONTENT_AT + lane * words, CONTENT_AT + (lane + 1) * words),
    );
  }

  /** XXH32 of what a call before gave a view of. */
  xxh32(view: Buffer): number {
    assert(view.buffer === this.#memory.buffer, 'only its own memory can be hashed');
    return this.#exports.xxh32(view.byteOffset, view.length) >>> 0;
  }
}
