import { closeSync, rmSync } from 'node:fs';
import { assert, must } from '@dumont/shared/util/assert.ts';
import type { OrderFile } from './orders.ts';
import { createTemporary, finishFile, reopenTemporary, temporaryPath, writeAt, type Place } from './new-file.ts';

/** Files open at once; more only when the chunks of many files lie mixed in one order. */
const MAX_OPEN = 64;

/** The files of one write order: each one opened when it is first written to, finished when it has all its bytes. */
export class OrderFiles implements Disposable {
  readonly #files: readonly OrderFile[];
  readonly #place: Place;
  readonly #onFlaw: (flaw: string) => void;
  /** Open ones by row of the files, least recently used first. */
  readonly #open = new Map<number, number>();
  /** Bytes still to come, for files that were begun here. */
  readonly #missing = new Map<number, number>();

  constructor(files: readonly OrderFile[], place: Place, onFlaw: (flaw: string) => void) {
    this.#files = files;
    this.#place = place;
    this.#onFlaw = onFlaw;
    for (const [row, { wholeBytes }] of files.entries()) if (wholeBytes === 0) this.#finish(row, this.#begin(row));
  }

  /** Writes verified bytes. */
  write(row: number, bytes: Uint8Array, offset: number): void {
    const file = this.#at(row);
    assert(offset + bytes.length <= file.size, 'a chunk lies inside its file');
    const opened = this.#opened(row);
    writeAt(opened, bytes, offset);
    if (file.wholeBytes === null) return;
    const missing = (this.#missing.get(row) ?? 0) - bytes.length;
    this.#missing.set(row, missing);
    if (missing === 0) this.#finish(row, opened);
  }

  /** Closes what is open and removes what was begun here and not finished. */
  [Symbol.dispose](): void {
    for (const opened of this.#open.values()) closeSync(opened);
    this.#open.clear();
    for (const row of this.#missing.keys()) {
      rmSync(temporaryPath(this.#place.root, this.#at(row).path), { force: true });
    }
    this.#missing.clear();
  }

  #opened(row: number): number {
    const known = this.#open.get(row);
    if (known !== undefined) {
      this.#open.delete(row);
      this.#open.set(row, known);
      return known;
    }
    for (const [oldest, opened] of this.#open) {
      if (this.#open.size < MAX_OPEN) break;
      this.#open.delete(oldest);
      closeSync(opened);
    }
    const isBegun = this.#at(row).wholeBytes === null || this.#missing.has(row);
    if (!isBegun) return this.#begin(row);
    const opened = reopenTemporary(this.#temporary(row));
    this.#open.set(row, opened);
    return opened;
  }

  #begin(row: number): number {
    const file = this.#at(row);
    const opened = createTemporary(this.#temporary(row), file);
    this.#open.set(row, opened);
    this.#missing.set(row, file.wholeBytes ?? 0);
    return opened;
  }

  #finish(row: number, opened: number): void {
    this.#open.delete(row);
    for (const flaw of finishFile(opened, this.#at(row), this.#place)) this.#onFlaw(flaw);
    this.#missing.delete(row);
  }

  #at(row: number): OrderFile {
    return must(this.#files[row], 'a use names a file of the order');
  }

  #temporary(row: number): string {
    return temporaryPath(this.#place.root, this.#at(row).path);
  }
}
