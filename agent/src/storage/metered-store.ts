import type { Clock } from '@dumont/shared/util/clock.ts';
import { LinkMeter } from './link-meter.ts';
import type { CallOptions, GetOptions, ObjectInfo, ObjectStat, ObjectStore, PutOptions } from './object-store.ts';

/** How fast objects went to and came from a store lately, waits and repeated calls included. */
export interface StoreThroughput {
  /** Null until half a second of uploads was seen. */
  readonly uploadBytesPerSecond: number | null;
  readonly downloadBytesPerSecond: number | null;
}

/** Another store whose transfers are measured. */
export class MeteredStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #uploads: LinkMeter;
  readonly #downloads: LinkMeter;

  constructor(inner: ObjectStore, clock: Clock) {
    this.#inner = inner;
    this.#uploads = new LinkMeter(clock);
    this.#downloads = new LinkMeter(clock);
  }

  throughput(): StoreThroughput {
    return {
      uploadBytesPerSecond: this.#uploads.bytesPerSecond,
      downloadBytesPerSecond: this.#downloads.bytesPerSecond,
    };
  }

  async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    this.#uploads.begin();
    let passed = 0;
    try {
      const outcome = await this.#inner.put(key, bytes, options);
      if (outcome === 'stored') passed = bytes.length;
      return outcome;
    } finally {
      this.#uploads.end(passed);
    }
  }

  async get(key: string, options?: GetOptions): Promise<Uint8Array> {
    this.#downloads.begin();
    let passed = 0;
    try {
      const bytes = await this.#inner.get(key, options);
      passed = bytes.length;
      return bytes;
    } finally {
      this.#downloads.end(passed);
    }
  }

  stat(key: string, options?: CallOptions): Promise<ObjectStat | null> {
    return this.#inner.stat(key, options);
  }

  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    return this.#inner.list(prefix, options);
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#inner.delete(key, options);
  }
}
