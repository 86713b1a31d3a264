import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { ZSTD_MAX_WINDOW_LOG } from '@dumont/shared/format/zstd-frame.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Level 1 is within some per cent of level 3 on what checkpoints and their logs hold, and twice as fast. */
const LEVEL = 1;
/**
 * For bytes without repetitions, such as lanes of weights, whose gain is all in the entropy coder: the search for matches is
 * all but off. More than twice as fast as the level's own, and smaller, since matches by chance cost more than they save.
 */
const ENTROPY_ONLY = {
  [constants.ZSTD_c_compressionLevel]: LEVEL,
  [constants.ZSTD_c_hashLog]: 6,
  [constants.ZSTD_c_minMatch]: 7,
};

/** Bytes as one Zstandard frame without a checksum; `matches` false when there are no repetitions to look for. */
export function compressZstd(bytes: Uint8Array, { matches }: { readonly matches: boolean }): Buffer {
  return zstdCompressSync(bytes, {
    params: matches ? { [constants.ZSTD_c_compressionLevel]: LEVEL } : ENTROPY_ONLY,
    // One output buffer; incompressible input grows by a 256th and a few bytes at most.
    chunkSize: bytes.length + (bytes.length >> 7) + 512,
    pledgedSrcSize: bytes.length,
  });
}

/** Inverse of {@link compressZstd}. @throws {DumontError} CORRUPT unless exactly `length` bytes come out of all of `frame` */
export function decompressZstd(frame: Uint8Array, length: number): Buffer {
  const { buffer, engine } = unpack(frame, length);
  if (buffer.length !== length || engine.bytesWritten !== frame.length) {
    const found = `${engine.bytesWritten} of ${frame.length} bytes unpack to ${buffer.length} of ${length}`;
    throw new DumontError('CORRUPT', `a Zstandard frame is refused: ${found}`);
  }
  return buffer;
}

/** What Node returns with `info`, which its types leave out; the engine's `bytesWritten` is what it has taken. */
interface Unpacked {
  readonly buffer: Buffer;
  readonly engine: { readonly bytesWritten: number };
}

function unpack(frame: Uint8Array, maxLength: number): Unpacked {
  try {
    return zstdDecompressSync(frame, {
      info: true,
      params: { [constants.ZSTD_d_windowLogMax]: ZSTD_MAX_WINDOW_LOG },
      // One more than there may be, and no less than the library takes.
      chunkSize: Math.max(64, maxLength + 1),
      maxOutputLength: maxLength,
    }) as unknown as Unpacked;
  } catch (cause) {
    throw new DumontError('CORRUPT', 'a Zstandard frame does not unpack', { cause });
  }
}
