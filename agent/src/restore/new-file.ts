import { closeSync, constants, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { TEMP_FILE_PREFIX } from '../workspace/ignore.ts';
import { applyToFile, applyToPath, type Metadata, type MetadataOptions } from './metadata.ts';

/** What is needed of a file entry to make its file. */
export interface FileToMake extends Metadata {
  /** Relative to the target folder. */
  readonly path: string;
  readonly size: number;
  readonly hasHoles: boolean;
  /** Clear attributes that come from the folder: it gives access lists to what is made in it. */
  readonly clearsAttributes: boolean;
}

/** Where things are made. */
export interface Place extends MetadataOptions {
  /** The target folder, absolute and free of symlinks. */
  readonly root: string;
}

/** Names up to this many bytes long fit behind the prefix of temporary files. */
const MAX_PLAIN_NAME_BYTES = 255 - TEMP_FILE_PREFIX.length;
/** Longest code unit in UTF-8, bytes. */
const MAX_UNIT_BYTES = 3;

/**
 * The temporary name of a path, beside it: always the same for the same path, so that what a killed restore left is
 * replaced by the next one.
 */
export function temporaryPath(root: string, path: string): string {
  const slash = path.lastIndexOf('/');
  const name = path.slice(slash + 1);
  const fits = name.length * MAX_UNIT_BYTES <= MAX_PLAIN_NAME_BYTES || Buffer.byteLength(name) <= MAX_PLAIN_NAME_BYTES;
  const plain = fits ? name : hashHex(new TextEncoder().encode(name)).slice(0, 24);
  return `${root}/${path.slice(0, slash + 1)}${TEMP_FILE_PREFIX}${plain}`;
}

/** Makes an empty temporary file, of full length where the file has holes. @returns it, open for writing */
export function createTemporary(temporary: string, file: FileToMake): number {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  let opened: number;
  try {
    opened = openSync(temporary, flags, 0o600);
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    rmSync(temporary);
    opened = openSync(temporary, flags, 0o600);
  }
  if (file.hasHoles) ftruncateSync(opened, file.size);
  return opened;
}

/** Opens a temporary file that {@link createTemporary} made. */
export function reopenTemporary(temporary: string): number {
  return openSync(temporary, constants.O_WRONLY | constants.O_NOFOLLOW);
}

/** Writes all of it. */
export function writeAt(opened: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length;) {
    done += writeSync(opened, bytes, done, bytes.length - done, offset + done);
  }
}

/**
 * Gives a complete temporary file its metadata and its name, over whatever has it. Closes it.
 * @returns what could not be set, one line each
 */
export function finishFile(opened: number, file: FileToMake, place: Place): readonly string[] {
  const temporary = temporaryPath(place.root, file.path);
  let flaws: readonly string[];
  try {
    flaws = file.clearsAttributes ? applyToPath(temporary, file, place) : applyToFile(opened, temporary, file, place);
  } finally {
    closeSync(opened);
  }
  renameSync(temporary, `${place.root}/${file.path}`);
  return flaws.map((flaw) => `${file.path}: ${flaw}`);
}
