import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { MAX_HOLES } from '@dumont/shared/format/limits.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { sameFileState, type FileState } from '../workspace/scan.ts';
import type { Segment } from './chunker.ts';

/** Offset and length in bytes of a part that reads as zeros and has no chunks. */
export type Hole = readonly [offset: number, length: number];

/** Holes begin and end at multiples of this, but for one at the file's end: as many bytes as the longest chunk has. */
export const HOLE_BYTES = 4 * 1024 * 1024;
/** Looked at in one piece: stays in a cache, and is a multiple of every block that direct reading wants. */
const PIECE_BYTES = 256 * 1024;

const ZEROS = Buffer.alloc(PIECE_BYTES);

/**
 * The parts of a sparse file that hold only zeros, ascending, neighbours joined. Reads past the page cache where the
 * filesystem can: holes then cost nothing but memory that is cleared, which the kernel does at 20 GB/s, and cached pages of
 * zeros do not drive out useful ones. What is written meanwhile is the caller's to notice.
 * @param file.state the path must still be this file, or there are no holes in it
 * @param file.scratch overwritten; {@link PIECE_BYTES} at least, at an address that is a multiple of 4 KiB
 */
export function findHoles(
  path: string,
  file: { readonly state: FileState; readonly sizeBytes: number; readonly scratch: Buffer },
): readonly Hole[] {
  const opened = openDirect(path);
  if (opened === null) return [];
  try {
    const now = fstatSync(opened, { bigint: true });
    if (!now.isFile() || !sameFileState(now, file.state)) return [];
    const holes: Hole[] = [];
    for (let offset = 0; offset < file.sizeBytes && holes.length < MAX_HOLES; offset += HOLE_BYTES) {
      const length = Math.min(HOLE_BYTES, file.sizeBytes - offset);
      if (!isZero(opened, { offset, length }, file.scratch)) continue;
      const last = holes.at(-1);
      if (last !== undefined && last[0] + last[1] === offset) holes[holes.length - 1] = [last[0], last[1] + length];
      else holes.push([offset, length]);
    }
    return holes;
  } finally {
    closeSync(opened);
  }
}

/** What lies between holes, cut by its content. Pure. */
export function* segmentsBetween(holes: readonly Hole[], sizeBytes: number): Generator<Segment> {
  let at = 0;
  for (const [offset, length] of [...holes, [sizeBytes, 0] as const]) {
    if (offset > at) yield { offset: at, length: offset - at, cut: 'content' };
    at = offset + length;
  }
}

/** Null when the file is gone or cannot be opened, which the caller's own reading meets again. */
function openDirect(path: string): number | null {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    return openSync(path, flags | constants.O_DIRECT);
  } catch (error) {
    // Filesystems without direct reading, such as older tmpfs.
    if (systemErrorCode(error) !== 'EINVAL') return null;
  }
  try {
    return openSync(path, flags);
  } catch {
    return null;
  }
}

/** False also when it cannot be read this way. */
function isZero(file: number, range: { readonly offset: number; readonly length: number }, scratch: Buffer): boolean {
  for (let done = 0; done < range.length;) {
    const wanted = Math.min(PIECE_BYTES, range.length - done);
    const count = readPiece(file, scratch, range.offset + done);
    if (count < wanted) return false;
    if (!scratch.subarray(0, wanted).equals(ZEROS.subarray(0, wanted))) return false;
    done += wanted;
  }
  return true;
}

/** Always asks for a whole piece, as direct reading wants it; the file's end makes it shorter. */
function readPiece(file: number, scratch: Buffer, offset: number): number {
  try {
    return readSync(file, scratch, 0, PIECE_BYTES, offset);
  } catch {
    return 0;
  }
}
