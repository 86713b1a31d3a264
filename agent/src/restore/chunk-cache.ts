import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Manifest } from '@dumont/shared/format/manifest.ts';
import {
  decodePackIndex,
  decodePackTrailer,
  PACK_TRAILER_BYTES,
  type PackIndexEntry,
} from '@dumont/shared/format/pack.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';

/** A segment is one job's frames as a pack: its name is 32 random hexadecimal digits. */
const SEGMENT_PATTERN = /^[0-9a-f]{32}$/;
const PART_PATTERN = /^[0-9a-f]{32}\.part$/;
/** Sources of ranges that lie here; no key of a store begins so. */
const SOURCE_PREFIX = 'cache:';
/** More segments than this are not looked at: the oldest go first. */
const MAX_SEGMENTS = 20_000;

export interface ChunkCacheOptions {
  /** Made when absent; holds nothing else. */
  readonly dir: string;
  /** What it may hold, bytes; the segments used longest ago go first. */
  readonly maxBytes: number;
}

interface Segment {
  readonly bytes: number;
  readonly entries: readonly PackIndexEntry[];
}

/**
 * Frames fetched before, by chunk id, in files of a local folder. Nothing in it is trusted: a frame is checked against its
 * chunk id like any other, and what is damaged is removed and fetched again. Several processes may share a folder.
 */
export class ChunkCache {
  readonly #options: ChunkCacheOptions;
  readonly #clock: Clock;
  /** By name, least recently used first. */
  readonly #segments = new Map<string, Segment>();
  readonly #used = new Set<string>();
  readonly #places = new Map<string, { readonly name: string; readonly entry: PackIndexEntry }>();
  #bytes = 0;

  private constructor(options: ChunkCacheOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
  }

  /** @throws {DumontError} IO when the folder cannot be made or read */
  static async open(options: ChunkCacheOptions, clock: Clock): Promise<ChunkCache> {
    const cache = new ChunkCache(options, clock);
    try {
      await mkdir(options.dir, { recursive: true, mode: 0o700 });
      const names = await readdir(options.dir);
      // What a killed restore left; a live one whose file goes simply does not keep it.
      for (const name of names) if (PART_PATTERN.test(name)) await cache.#remove(name);
      const found: { name: string; mtimeMs: number; size: number }[] = [];
      for (const name of names.filter((one) => SEGMENT_PATTERN.test(one))) {
        const stats = await stat(join(options.dir, name)).catch(() => null);
        if (stats?.isFile() === true) found.push({ name, mtimeMs: stats.mtimeMs, size: stats.size });
      }
      found.sort((a, b) => a.mtimeMs - b.mtimeMs);
      for (const { name } of found.splice(0, Math.max(0, found.length - MAX_SEGMENTS))) await cache.#remove(name);
      for (const { name, size } of found) await cache.#load(name, size);
      await cache.#evict();
    } catch (error) {
      throw toDumontError(error, 'IO', `opening the cache ${options.dir}`);
    }
    return cache;
  }

  /** Where a row of the chunk table lies here; null when it does not. */
  placeOf(row: Manifest['chunks'][number]): { readonly source: string; readonly offset: number } | null {
    const [chunkId, , , storedLength, rawLength, codec] = row;
    const place = this.#places.get(chunkId);
    const isSame =
      place?.entry.storedLength === storedLength && place.entry.rawLength === rawLength && place.entry.codec === codec;
    return isSame ? { source: SOURCE_PREFIX + place.name, offset: place.entry.offset } : null;
  }

  /** True for the source of a range that {@link placeOf} named. */
  holds(source: string): boolean {
    return source.startsWith(SOURCE_PREFIX);
  }

  /** A range's bytes; null when they are gone. */
  async read(source: string, range: { readonly offset: number; readonly length: number }): Promise<Uint8Array | null> {
    const name = source.slice(SOURCE_PREFIX.length);
    const segment = this.#segments.get(name);
    if (segment !== undefined) {
      this.#segments.delete(name);
      this.#segments.set(name, segment);
    }
    this.#used.add(name);
    return readRange(join(this.#options.dir, name), range).catch(() => null);
  }

  /** Removes what turned out to be damaged. */
  async drop(source: string): Promise<void> {
    const name = source.slice(SOURCE_PREFIX.length);
    this.#forget(name);
    await this.#remove(name);
  }

  /** A path for a new segment, which {@link admit} takes in once it is written. */
  newSegment(): string {
    return join(this.#options.dir, randomBytes(16).toString('hex'));
  }

  /** Counts a segment that was written; removes older ones when there is too much. */
  async admit(path: string): Promise<void> {
    const stats = await stat(path).catch(() => null);
    if (stats === null) return;
    await this.#load(path.slice(-32), stats.size);
    await this.#evict();
  }

  /** Notes what was used, so that it stays longest. */
  async close(): Promise<void> {
    const now = this.#clock.nowMs() / 1_000;
    for (const name of this.#used) await utimes(join(this.#options.dir, name), now, now).catch(() => undefined);
  }

  async #load(name: string, bytes: number): Promise<void> {
    const entries = await readIndex(join(this.#options.dir, name), bytes).catch(() => null);
    if (entries === null) {
      await this.#remove(name);
      return;
    }
    this.#segments.set(name, { bytes, entries });
    this.#bytes += bytes;
    for (const entry of entries) this.#places.set(entry.chunkId, { name, entry });
  }

  async #evict(): Promise<void> {
    for (const name of this.#segments.keys()) {
      if (this.#bytes <= this.#options.maxBytes) return;
      this.#forget(name);
      await this.#remove(name);
    }
  }

  #forget(name: string): void {
    const segment = this.#segments.get(name);
    if (segment === undefined) return;
    this.#segments.delete(name);
    this.#bytes -= segment.bytes;
    for (const { chunkId } of segment.entries) {
      if (this.#places.get(chunkId)?.name === name) this.#places.delete(chunkId);
    }
  }

  async #remove(name: string): Promise<void> {
    await rm(join(this.#options.dir, name), { force: true }).catch(() => undefined);
  }
}

async function readIndex(path: string, sizeBytes: number): Promise<readonly PackIndexEntry[]> {
  const tail = { offset: sizeBytes - PACK_TRAILER_BYTES, length: PACK_TRAILER_BYTES };
  const range = decodePackTrailer(await readRange(path, tail), sizeBytes);
  return decodePackIndex(range.length === 0 ? new Uint8Array() : await readRange(path, range), range);
}

async function readRange(path: string, range: { readonly offset: number; readonly length: number }) {
  await using file = await open(path, 'r');
  const bytes = Buffer.allocUnsafeSlow(range.length);
  for (let done = 0; done < range.length;) {
    const { bytesRead } = await file.read(bytes, done, range.length - done, range.offset + done);
    if (bytesRead === 0) throw new Error(`${path} ends early`);
    done += bytesRead;
  }
  return bytes;
}
