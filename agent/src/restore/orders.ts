import type { Codec } from '@dumont/shared/format/pack.ts';
import type { ErrorCode } from '@dumont/shared/util/errors.ts';
import type { CodingOptions } from '../snapshot/planes/chunk-coder.ts';
import type { FileToMake, Place } from './new-file.ts';
import type { Piece } from './plan.ts';

/** What a restoring thread is started with. */
export interface WriterSetup {
  readonly place: Place;
  readonly coding: CodingOptions;
}

/** A file that a write order writes to. */
export interface OrderFile extends FileToMake {
  /**
   * Bytes that this order writes to it when it makes the whole file, from nothing to its final name; null when the
   * temporary file is there already and others write to it too.
   */
  readonly wholeBytes: number | null;
}

/** A stretch of a chunk that goes into a file of the order. */
export interface OrderUse {
  readonly file: number;
  readonly from: number;
  readonly offset: number;
  readonly length: number;
}

export interface OrderChunk {
  readonly chunkId: string;
  readonly codec: Codec;
  readonly rawLength: number;
  /** Row of `buffers`, and where the frame lies in it. */
  readonly buffer: number;
  readonly start: number;
  readonly storedLength: number;
  readonly uses: readonly OrderUse[];
}

/** A chunk of a file that may lie on disk already. */
export interface LocalChunk {
  readonly chunkId: string;
  readonly pieces: readonly Pick<Piece, 'offset' | 'length'>[];
}

/** A file to compare with what lies under its name. */
export interface FileToCompare extends FileToMake {
  readonly chunks: readonly LocalChunk[];
  readonly holes: readonly (readonly [number, number])[];
  /** False when the file on disk must be replaced even when its bytes are right. */
  readonly mayKeep: boolean;
}

/** Orders to a restoring thread; each is answered once. Buffers are transferred, not copied. */
export type WriterOrder =
  | {
      /** Decode the chunks, each checked, and write them; the first damaged one ends the order. */
      readonly type: 'write';
      readonly buffers: readonly Uint8Array[];
      readonly chunks: readonly OrderChunk[];
      readonly files: readonly OrderFile[];
      /** Where to keep the frames of some buffers once all are checked; null keeps nothing. */
      readonly keep: { readonly path: string; readonly buffers: readonly number[] } | null;
    }
  | {
      /** Decode the chunks and say which are damaged. */
      readonly type: 'check';
      readonly buffers: readonly Uint8Array[];
      readonly chunks: readonly OrderChunk[];
    }
  | { readonly type: 'compare'; readonly files: readonly FileToCompare[] };

/** Attributes that could not be set: all counted, the first ones listed. */
export interface Flaws {
  readonly count: number;
  readonly listed: readonly string[];
}

/**
 * What lies on disk of a file: all of it, and it was kept; else how many bytes were copied to its temporary file, and which
 * chunks (rows of `chunks`) are missing there. `isMade` says that there is a temporary file.
 */
export type Comparison =
  | { readonly kind: 'kept' }
  | { readonly kind: 'replaced'; readonly copiedBytes: number }
  | {
      readonly kind: 'partial';
      readonly isMade: boolean;
      readonly missing: readonly number[];
      readonly copiedBytes: number;
    };

export type WriterAnswer =
  | { readonly type: 'written'; readonly bytesWritten: number; readonly decodeMs: number; readonly flaws: Flaws }
  | { readonly type: 'checked'; readonly damaged: readonly { readonly chunkId: string; readonly message: string }[] }
  | { readonly type: 'compared'; readonly files: readonly Comparison[]; readonly flaws: Flaws }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string };
