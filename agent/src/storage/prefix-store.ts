import type { CallOptions, GetOptions, ObjectInfo, ObjectStat, ObjectStore, PutOptions } from './object-store.ts';
import { assertPrefix } from './object-store.ts';

/** Shows what lies under `prefix` of another store as a store of its own; the prefix is put before every key as it is. */
export class PrefixStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #prefix: string;

  /** @throws {DumontError} USAGE for a prefix that is no beginning of a key */
  constructor(inner: ObjectStore, prefix: string) {
    assertPrefix(prefix);
    this.#inner = inner;
    this.#prefix = prefix;
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    return this.#inner.put(this.#prefix + key, bytes, options);
  }

  get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#inner.get(this.#prefix + key, options);
  }

  stat(key: string, options?: CallOptions): Promise<ObjectStat | null> {
    return this.#inner.stat(this.#prefix + key, options);
  }

  async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    for await (const info of this.#inner.list(this.#prefix + prefix, options)) {
      yield { ...info, key: info.key.slice(this.#prefix.length) };
    }
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#inner.delete(this.#prefix + key, options);
  }
}
