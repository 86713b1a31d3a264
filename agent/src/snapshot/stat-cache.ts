import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { HeldSnapshot, STATE_FIELDS } from './held-snapshot.ts';

const MAGIC = Buffer.from('DSTAT001', 'latin1');
const HASH_BYTES = 32;
const HEADER_BYTES = MAGIC.length + HASH_BYTES;
const ENTRY_BYTES = STATE_FIELDS * 8;

/**
 * What the inodes of one snapshot's entries were when it was taken, in a file of this machine: with it a later process
 * reads only what changed since. It only saves work: one that is missing, unreadable, damaged or of another snapshot is as
 * none, and one that cannot be written does not make a snapshot fail that is stored already.
 *
 *     magic (8) · manifest hash (32) · ctime ns, inode, device (u64 each) for every entry … · BLAKE3 of all before (32)
 */
export class StatCache {
  readonly #path: string;

  /** @param path of the file; one for each pair of folder and store */
  constructor(path: string) {
    this.#path = path;
  }

  /** The snapshot with what is known of its inodes; null when nothing is. */
  async load(manifestHash: string, snapshot: HeldSnapshot): Promise<HeldSnapshot | null> {
    const bytes = await this.#read();
    const entryCount = snapshot.counts.entries;
    if (bytes?.length !== HEADER_BYTES + entryCount * ENTRY_BYTES + HASH_BYTES) return null;
    if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return null;
    if (bytes.toString('hex', MAGIC.length, HEADER_BYTES) !== manifestHash) return null;
    const end = bytes.length - HASH_BYTES;
    if (!blake3(bytes.subarray(0, end)).equals(bytes.subarray(end))) return null;
    let at = HEADER_BYTES;
    const segments = snapshot.segments.map((segment) => {
      const states = new BigUint64Array(segment.entries.length * STATE_FIELDS);
      Buffer.from(states.buffer).set(bytes.subarray(at, at + states.byteLength));
      at += states.byteLength;
      return { ...segment, states };
    });
    return new HeldSnapshot(segments);
  }

  /** Replaces the file. @returns false when that failed; the old one is there or none */
  async save(manifestHash: string, snapshot: HeldSnapshot): Promise<boolean> {
    const states = snapshot.segments.map((one) => Buffer.from(one.states.buffer, 0, one.states.byteLength));
    const body = Buffer.concat([MAGIC, Buffer.from(manifestHash, 'hex'), ...states]);
    const temporary = `${this.#path}.${randomUUID()}`;
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      // Not flushed: after a crash of the machine the hash tells whether all of it is there.
      await writeFile(temporary, Buffer.concat([body, blake3(body)]), { mode: 0o600, flag: 'wx' });
      await rename(temporary, this.#path);
      return true;
    } catch {
      await rm(temporary, { force: true }).catch(() => {});
      return false;
    }
  }

  async #read(): Promise<Buffer | null> {
    try {
      return await readFile(this.#path);
    } catch {
      return null;
    }
  }
}
