import { createHash } from 'node:crypto';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';

const FOLDERS = 6;
const FILES_PER_FOLDER = 12;
const LOGS = 3;
const MAX_SMALL_BYTES = 64 * 1024;
const MAX_FILE_BYTES = 300 * 1024;
const LARGE_BYTES = 5 * 1024 * 1024;

/** What a path held after a finished write. */
export interface Version {
  /** Of all writes, ascending. */
  readonly seq: number;
  /** Wall time at which the write was over, ms. */
  readonly doneWallMs: number;
  /** Null when the path was removed. */
  readonly hash: string | null;
  readonly bytes: number;
  /** Bytes that came with the write. */
  readonly newBytes: number;
  /** Of a write that is not atomic: a reader may see its beginning. */
  readonly content: Buffer | null;
}

/** Writes to a folder as programs do, and keeps a log of every write that finished. */
export class WriteLoad {
  readonly #root: string;
  readonly #random: Random;
  readonly #history = new Map<string, Version[]>();
  #seq = 0;

  constructor(root: string, random: Random) {
    this.#root = root;
    this.#random = random;
    for (let folder = 0; folder < FOLDERS; folder += 1) mkdirSync(join(root, `d${folder}`), { recursive: true });
    for (let log = 0; log < LOGS; log += 1) this.#rewrite(`log${log}.txt`, this.#body(5_000));
  }

  /** What each path held since {@link forget}, oldest first. */
  get history(): ReadonlyMap<string, readonly Version[]> {
    return this.#history;
  }

  get writes(): number {
    return this.#seq;
  }

  /** Keeps the last version of each path only. */
  forget(): void {
    for (const [path, versions] of this.#history) this.#history.set(path, versions.slice(-1));
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.writeOne();
      await sleep(this.#random.next() * 6);
    }
  }

  writeOne(): void {
    const path = this.#anyPath();
    const dice = this.#random.next();
    if (dice < 0.35) this.#replace(path, this.#body(this.#random.next() * MAX_FILE_BYTES));
    else if (dice < 0.55) this.#rewrite(path, this.#body(this.#random.next() * MAX_SMALL_BYTES));
    else if (dice < 0.8) this.#append(`log${Math.floor(this.#random.next() * LOGS)}.txt`);
    else if (dice < 0.88) this.#remove(path);
    else if (dice < 0.97) this.#rename(path, this.#anyPath());
    else this.#replace('large.bin', this.#body(LARGE_BYTES));
  }

  #anyPath(): string {
    const folder = Math.floor(this.#random.next() * FOLDERS);
    return `d${folder}/f${Math.floor(this.#random.next() * FILES_PER_FOLDER)}`;
  }

  /** Bytes that no other write has, some of them as in any other. */
  #body(length: number): Buffer {
    const head = `write ${this.#seq} of ${Math.floor(this.#random.next() * 1e15)}\n`;
    const body = Buffer.alloc(Math.max(head.length, Math.floor(length)), head);
    const words = Math.floor(body.length / 64);
    for (let at = 0; at < words; at += 1) body.writeUInt32LE(Math.floor(this.#random.next() * 2 ** 32), at * 64);
    return body;
  }

  #replace(path: string, body: Buffer): void {
    const temporary = join(this.#root, `${dirname(path)}/new.tmp`);
    writeFileSync(temporary, body);
    renameSync(temporary, join(this.#root, path));
    this.#note(path, body, { newBytes: body.length, isAtomic: true });
  }

  #rewrite(path: string, body: Buffer): void {
    writeFileSync(join(this.#root, path), body);
    this.#note(path, body, { newBytes: body.length, isAtomic: false });
  }

  #append(path: string): void {
    const line = this.#body(50 + this.#random.next() * 2_000);
    appendFileSync(join(this.#root, path), line);
    this.#note(path, readFileSync(join(this.#root, path)), { newBytes: line.length, isAtomic: false });
  }

  #remove(path: string): void {
    if (!this.#isThere(path)) return;
    rmSync(join(this.#root, path));
    this.#note(path, null, { newBytes: 0, isAtomic: true });
  }

  #rename(from: string, to: string): void {
    if (from === to || !this.#isThere(from)) return;
    const body = readFileSync(join(this.#root, from));
    renameSync(join(this.#root, from), join(this.#root, to));
    this.#note(from, null, { newBytes: 0, isAtomic: true });
    this.#note(to, body, { newBytes: 0, isAtomic: true });
  }

  #isThere(path: string): boolean {
    return typeof this.#history.get(path)?.at(-1)?.hash === 'string';
  }

  #note(path: string, body: Buffer | null, how: { readonly newBytes: number; readonly isAtomic: boolean }): void {
    this.#seq += 1;
    const versions = this.#history.get(path) ?? [];
    versions.push({
      seq: this.#seq,
      doneWallMs: systemClock.nowMs(),
      hash: body === null ? null : hashOf(body),
      bytes: body?.length ?? 0,
      newBytes: how.newBytes,
      content: how.isAtomic ? null : body,
    });
    this.#history.set(path, versions);
  }
}

/** Of a version's bytes. */
export function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
