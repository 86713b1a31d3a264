/** The bytes of a file that may change or shrink meanwhile. */
export interface ByteSource {
  /** Bytes to read of it; there may be fewer. */
  readonly sizeBytes: number;
  /** Reads up to `into.length` bytes at an offset. @returns how many; 0 at the end */
  read(into: Uint8Array, offset: number): Promise<number>;
}

/** Fills `into` from an offset. @returns false when the source ends before */
export async function readFully(source: ByteSource, into: Uint8Array, offset: number): Promise<boolean> {
  for (let done = 0; done < into.length;) {
    const count = await source.read(into.subarray(done), offset + done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}
