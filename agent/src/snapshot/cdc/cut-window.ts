import { assert } from '@dumont/shared/util/assert.ts';
import { assetBytes } from '../../node/assets.ts';

/** Bounds of a content-defined chunk but a file's last. The module in `find-cut.wasm` has the lower one built in. */
export const MIN_CHUNK_BYTES = 256 * 1024;
export const MAX_CHUNK_BYTES = 4 * 1024 * 1024;

/** Holds the longest chunk with what is read beyond it, and the longest part of a header that is looked at. */
const WINDOW_BYTES = 2 * MAX_CHUNK_BYTES;
/** Where the window begins in the module's memory, which is one page longer on either side. */
const WINDOW_ADDRESS = 65_536;

/** The part of the WebAssembly API used here; Node has it, its type declarations do not. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

interface FindCutModule {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly findCut: (start: number, from: number, end: number) => number;
}

const MODULE = new WebAssembly.Module(assetBytes('find-cut.wasm'));

/**
 * A buffer of 8 MiB and the scan for cuts in it. It lies in the memory of the WebAssembly module, so that what is read
 * into it is scanned, hashed and compressed where it is. Pages not written to take no memory.
 */
export class CutWindow {
  /** Its content is the owner's; at a fixed address for ever. */
  readonly bytes: Buffer;
  readonly #module: FindCutModule;

  constructor() {
    this.#module = new WebAssembly.Instance(MODULE).exports as FindCutModule;
    this.bytes = Buffer.from(this.#module.memory.buffer, WINDOW_ADDRESS, WINDOW_BYTES);
  }

  /**
   * Where the chunk that begins at `start` ends by its content: the first cut behind `from`, up to and including `end`, as
   * an offset in {@link bytes}; null when there is none. What was seen without a cut need not be seen again: with more
   * bytes, pass the old `end` as `from`. The caller ends the chunk at {@link MAX_CHUNK_BYTES}.
   */
  findCut(start: number, from: number, end: number): number | null {
    assert(start <= from && from <= end && end <= WINDOW_BYTES, 'a scan stays in the window');
    const address = this.#module.findCut(start + WINDOW_ADDRESS, from + WINDOW_ADDRESS, end + WINDOW_ADDRESS);
    return address === 0 ? null : address - WINDOW_ADDRESS;
  }
}
