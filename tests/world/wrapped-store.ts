import type {
  CallOptions,
  GetOptions,
  ObjectInfo,
  ObjectStore,
  PutOptions,
} from '@dumont/agent/storage/object-store.ts';

/** A call on its way through a {@link WrappedStore}. */
export interface StoreCall {
  readonly name: 'put' | 'get' | 'stat' | 'list' | 'delete';
  /** Key or prefix. */
  readonly key: string;
}

/** Runs around every call of the store below: calls `proceed` once, or throws instead of it or after it. */
export type AroundCall = <Result>(call: StoreCall, proceed: () => Promise<Result>) => Promise<Result>;

/** An object store with something around each of its calls, such as faults. A listing is one call, read whole. */
export class WrappedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #around: AroundCall;

  constructor(inner: ObjectStore, around: AroundCall) {
    this.#inner = inner;
    this.#around = around;
  }

  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    return this.#around({ name: 'put', key }, () => this.#inner.put(key, bytes, options));
  }

  get(key: string, options?: GetOptions): Promise<Uint8Array> {
    return this.#around({ name: 'get', key }, () => this.#inner.get(key, options));
  }

  stat(key: string, options?: CallOptions): Promise<{ readonly sizeBytes: number } | null> {
    return this.#around({ name: 'stat', key }, () => this.#inner.stat(key, options));
  }

  async *list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    yield* await this.#around({ name: 'list', key: prefix }, async () => {
      const found: ObjectInfo[] = [];
      for await (const info of this.#inner.list(prefix, options)) found.push(info);
      return found;
    });
  }

  delete(key: string, options?: CallOptions): Promise<void> {
    return this.#around({ name: 'delete', key }, () => this.#inner.delete(key, options));
  }
}
