import { putBlockSize, putFrameEnd, putFrameHeader } from '@dumont/shared/format/lz4-frame.ts';
import type { CodecKernel } from './codec-kernel.ts';

/** Size word of a block. */
const BLOCK_SIZE_BYTES = 4;

/**
 * Builds one LZ4 frame in a kernel's memory without moving what is stored as it is: the frame comes out in pieces,
 * some of it views of the content.
 */
export class FrameBuilder {
  readonly #kernel: CodecKernel;
  readonly #pieces: Uint8Array[] = [];
  /** What of the kernel's frame is written, and what of that is in a piece. */
  #end: number;
  #pieceStart = 0;

  constructor(kernel: CodecKernel, contentLength: number) {
    this.#kernel = kernel;
    this.#end = putFrameHeader(kernel.frame, 0, contentLength);
  }

  /** Adds bytes, kept unchanged until the pieces are used, as a stored block. */
  addStored(bytes: Uint8Array): void {
    this.#end = putBlockSize(this.#kernel.frame, this.#end, { length: bytes.length, stored: true });
    this.#closePiece();
    this.#pieces.push(bytes);
  }

  /** Adds bytes of the kernel's memory as an LZ4 block, or as a stored one when that is not smaller. @returns which */
  addPacked(bytes: Uint8Array): 'lz4' | 'stored' {
    const length = this.#kernel.packBlock(bytes, this.#end + BLOCK_SIZE_BYTES);
    if (length === 0) {
      this.addStored(bytes);
      return 'stored';
    }
    this.#end = putBlockSize(this.#kernel.frame, this.#end, { length, stored: false }) + length;
    return 'lz4';
  }

  /** @returns the frame in pieces; views that hold until the kernel is used again */
  finish(contentChecksum: number): readonly Uint8Array[] {
    this.#end = putFrameEnd(this.#kernel.frame, this.#end, contentChecksum);
    this.#closePiece();
    return this.#pieces;
  }

  #closePiece(): void {
    this.#pieces.push(this.#kernel.frame.subarray(this.#pieceStart, this.#end));
    this.#pieceStart = this.#end;
  }
}
