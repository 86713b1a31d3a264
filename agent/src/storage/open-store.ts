import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { AdaptiveLimitStore } from './adaptive-limit.ts';
import { FileStore } from './file-store.ts';
import { MeteredStore, type StoreThroughput } from './metered-store.ts';
import type { ObjectStore } from './object-store.ts';
import { PacedStore, type BandwidthLimits } from './paced-store.ts';
import { PrefixStore } from './prefix-store.ts';
import { RetryStore, type RetryOptions } from './retry-store.ts';

/** An object store that holds connections until disposed, and knows how fast its transfers were lately. */
export interface OpenStore extends ObjectStore, AsyncDisposable {
  throughput(): StoreThroughput;
}

export interface OpenStoreOptions extends RetryOptions {
  /** Where this computer mounts the folder of a `file` grant, when not at the grant's own path. */
  readonly fileMount?: string | undefined;
  readonly limits?: BandwidthLimits | undefined;
}

/**
 * The store a grant speaks of, with retries, as many requests at a time as it takes, and bandwidth below the limits.
 * Nothing is contacted yet.
 * @throws {DumontError} USAGE for a bad prefix
 */
export async function openStore(grant: StorageGrant, options: OpenStoreOptions): Promise<OpenStore> {
  const { clock, limits, fileMount } = options;
  if (grant.kind === 'file') {
    const store = fileMount === undefined ? new FileStore(grant.path) : new FileStore(fileMount, { isMount: true });
    return assemble(paced(store, limits, options), grant.prefix, options);
  }
  const { store, profile } = await openBucket(grant);
  const limited = new AdaptiveLimitStore(paced(store, limits, options), { clock, ...profile });
  return assemble(new RetryStore(limited, options), grant.prefix, options, store);
}

/** Loaded on demand: the SDK takes a good part of a second and tens of megabytes that a file store does not need. */
async function openBucket(grant: BucketGrant) {
  const { S3Store, profileOfGrant } = await import('./s3-store.ts');
  return { store: new S3Store(grant), profile: profileOfGrant(grant) };
}

function paced(store: ObjectStore, limits: BandwidthLimits | undefined, { clock }: RetryOptions): ObjectStore {
  const isCapped = limits?.uploadBytesPerSecond !== undefined || limits?.downloadBytesPerSecond !== undefined;
  return limits !== undefined && isCapped ? new PacedStore(store, limits, clock) : store;
}

function assemble(store: ObjectStore, prefix: string, { clock }: RetryOptions, owned?: AsyncDisposable): OpenStore {
  const metered = new MeteredStore(store, clock);
  return Object.assign(new PrefixStore(metered, prefix), {
    throughput: () => metered.throughput(),
    async [Symbol.asyncDispose]() {
      await owned?.[Symbol.asyncDispose]();
    },
  });
}
