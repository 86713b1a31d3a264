/** The bytes of a file that may change or shrink meanwhile. */
export interface ByteSource {
  /** Bytes to read of it; there may be fewer. */
  readonly sizeBytes: number;
  /** Reads up to `into.length` bytes at an offset. @returns how many; 0 at the end */
  read(into: Uint8Array, offset: number): number;
}

/** Fills `into` from an offset. @returns false when the source ends before */
export function readFully(source: ByteSource, into: Uint8Array, offset: number): boolean {
  for (let done = 0; done < into.length;) {
    const count = source.read(into.subarray(done), offset + done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}
