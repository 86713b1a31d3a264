import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { FileStore } from './file-store.ts';
import type { ObjectStore } from './object-store.ts';
import { PrefixStore } from './prefix-store.ts';
import { RetryStore, type RetryOptions } from './retry-store.ts';

/** An object store that holds connections until disposed. */
export type OpenStore = ObjectStore & AsyncDisposable;

export interface OpenStoreOptions extends RetryOptions {
  /** Where this computer mounts the folder of a `file` grant, when not at the grant's own path. */
  readonly fileMount?: string;
}

/** The store a grant speaks of, with retries. Nothing is contacted yet. @throws {DumontError} USAGE for a bad prefix */
export async function openStore(grant: StorageGrant, options: OpenStoreOptions): Promise<OpenStore> {
  if (grant.kind === 'file') {
    const { fileMount } = options;
    const store = fileMount === undefined ? new FileStore(grant.path) : new FileStore(fileMount, { isMount: true });
    return disposable(new PrefixStore(store, grant.prefix));
  }
  // Loaded on demand: the SDK takes a good part of a second and tens of megabytes that a file store does not need.
  const { S3Store } = await import('./s3-store.ts');
  const store = new S3Store(grant);
  return disposable(new PrefixStore(new RetryStore(store, options), grant.prefix), store);
}

function disposable(store: ObjectStore, owned?: AsyncDisposable): OpenStore {
  return Object.assign(store, {
    async [Symbol.asyncDispose]() {
      await owned?.[Symbol.asyncDispose]();
    },
  });
}
