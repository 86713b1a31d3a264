import {
  decodePackIndex,
  decodePackTrailer,
  PACK_TRAILER_BYTES,
  type PackIndexEntry,
} from '@dumont/shared/format/pack.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

/** Holds the index of 1,364 chunks, nearly every pack's, so that one request is enough. */
const TAIL_BYTES = 64 * 1024;
/** Before the entries: the header of the skippable frame they lie in. */
const SKIPPABLE_HEADER_BYTES = 8;

/**
 * The index of a pack of `sizeBytes`, from the pack itself.
 * @throws {DumontError} CORRUPT when it is damaged or its frames do not follow one another; NOT_FOUND
 */
export async function readPackTail(
  store: ObjectStore,
  pack: { readonly packId: string; readonly sizeBytes: number },
  options: CallOptions = {},
): Promise<readonly PackIndexEntry[]> {
  const { packId, sizeBytes } = pack;
  const key = packKey(packId);
  try {
    if (sizeBytes < PACK_TRAILER_BYTES) throw new DumontError('CORRUPT', 'it is too short for a pack');
    const tailAt = Math.max(0, sizeBytes - TAIL_BYTES);
    const tail = await store.get(key, { ...options, range: { offset: tailAt, length: sizeBytes - tailAt } });
    const range = decodePackTrailer(tail.subarray(-PACK_TRAILER_BYTES), sizeBytes);
    const isInTail = range.offset >= tailAt;
    const bytes = isInTail
      ? tail.subarray(range.offset - tailAt, range.offset - tailAt + range.length)
      : await store.get(key, { ...options, range });
    const entries = decodePackIndex(bytes, range);
    checkFrames(entries, range.offset - SKIPPABLE_HEADER_BYTES);
    return entries;
  } catch (error) {
    if (!isDumontError(error, 'CORRUPT')) throw error;
    throw new DumontError('CORRUPT', `${key}: ${error.message}`, { cause: error });
  }
}

/** There is nothing between frames, before the first or after the last. */
function checkFrames(entries: readonly PackIndexEntry[], framesLength: number): void {
  let at = 0;
  for (const { offset, storedLength } of entries) {
    if (offset !== at) throw new DumontError('CORRUPT', 'the frames of its index do not follow one another');
    at += storedLength;
  }
  if (at !== framesLength) throw new DumontError('CORRUPT', 'its index does not cover its frames');
}
