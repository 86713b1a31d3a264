import { closeSync, rmSync } from 'node:fs';
import type { FileEntry } from '@dumont/shared/format/manifest.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import {
  createTemporary,
  finishFile,
  reopenTemporary,
  temporaryPath,
  type FileToMake,
  type Place,
} from './new-file.ts';
import { dataBytes } from './plan.ts';
import type { Turn } from './select.ts';

/** What is known of one file that is being restored, on the thread that plans. */
export class FileState {
  readonly entry: FileEntry;
  readonly turn: Turn;
  readonly file: FileToMake;
  /** Bytes of data that are not in its temporary file yet. */
  missingBytes: number;
  /** There is a temporary file which several orders write to. */
  isMade = false;
  /** A thread may have made a temporary file. */
  isTouched = false;
  /** It is in its place. */
  isDone = false;

  constructor(entry: FileEntry, turn: Turn, clearsAttributes: boolean) {
    this.entry = entry;
    this.turn = turn;
    this.missingBytes = dataBytes(entry);
    const { type, path, size, mode, uid, gid, mtimeNs, xattrs } = entry;
    const hasHoles = entry.holes !== undefined;
    this.file = { type, path, size, mode, uid, gid, mtimeNs, hasHoles, clearsAttributes, xattrs };
  }

  /** Makes the temporary file that orders share. */
  make(place: Place): void {
    if (this.isMade) return;
    this.isTouched = true;
    attempt(this.entry.path, () => closeSync(createTemporary(temporaryPath(place.root, this.entry.path), this.file)));
    this.isMade = true;
  }

  /** Puts the complete temporary file in its place. @returns attributes that could not be set */
  finish(place: Place): readonly string[] {
    const flaws = attempt(this.entry.path, () =>
      finishFile(reopenTemporary(temporaryPath(place.root, this.entry.path)), this.file, place),
    );
    this.isDone = true;
    return flaws;
  }

  /** Removes what an unfinished file left. Nothing may be writing to it any more. */
  discard(place: Place): void {
    if (this.isTouched && !this.isDone) rmSync(temporaryPath(place.root, this.entry.path), { force: true });
  }
}

function attempt<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw toDumontError(error, 'IO', `restoring ${path}`);
  }
}
