import type { BucketGrant, PresignedGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { storageProfile } from '@dumont/shared/storage/storage-profile.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { AdaptiveLimitStore } from './adaptive-limit.ts';
import { FileStore } from './file-store.ts';
import { HeldGrant, placeOfGrant } from './held-grant.ts';
import { MeteredStore, type StoreThroughput } from './metered-store.ts';
import type { ObjectStore } from './object-store.ts';
import { PacedStore, type BandwidthLimits } from './paced-store.ts';
import { PresignedStore } from './presigned-store.ts';
import { PrefixStore } from './prefix-store.ts';
import { RenewingStore } from './renewing-store.ts';
import { RetryStore, type RetryOptions } from './retry-store.ts';
import type { SignRequests } from './url-desk.ts';

/** An object store that holds connections until disposed, and knows how fast its transfers were lately. */
export interface OpenStore extends ObjectStore, AsyncDisposable {
  throughput(): StoreThroughput;
  /**
   * Goes on with another grant of the same place; calls under way are not disturbed.
   * @throws {DumontError} CONFLICT for a grant of another place
   */
  renew(grant: StorageGrant): void;
}

export interface OpenStoreOptions extends RetryOptions {
  /** Where this computer mounts the folder of a `file` grant, when not at the grant's own path. */
  readonly fileMount?: string | undefined;
  readonly limits?: BandwidthLimits | undefined;
  /** Who signs requests for a `presigned` grant. */
  readonly sign?: SignRequests | undefined;
}

/**
 * The store a grant speaks of, with retries, as many requests at a time as it takes, and bandwidth below the limits.
 * Nothing is contacted yet.
 * @throws {DumontError} USAGE for a bad prefix, UNSUPPORTED for a `presigned` grant without anybody who signs
 */
export async function openStore(grant: StorageGrant, options: OpenStoreOptions): Promise<OpenStore> {
  const { limits, fileMount } = options;
  switch (grant.kind) {
    case 'file': {
      const store = fileMount === undefined ? new FileStore(grant.path) : new FileStore(fileMount, { isMount: true });
      return assemble({ grant, store: paced(store, limits, options) }, options);
    }
    case 's3':
      return openBucket(grant, options);
    case 'presigned':
      return openPresigned(grant, options);
  }
}

/** Loaded on demand: the SDK takes a good part of a second and tens of megabytes that a file store does not need. */
async function openBucket(grant: BucketGrant, options: OpenStoreOptions): Promise<OpenStore> {
  const { S3Store, profileOfGrant } = await import('./s3-store.ts');
  const { clock, limits } = options;
  const held = new HeldGrant(grant);
  const owned = new S3Store(grant, { held });
  const limited = new AdaptiveLimitStore(paced(owned, limits, options), { clock, ...profileOfGrant(grant) });
  const renewing = grant.expiresAtMs === undefined ? limited : new RenewingStore(limited, held, clock);
  return assemble({ grant, held, owned, store: new RetryStore(renewing, options) }, options);
}

function openPresigned(grant: PresignedGrant, options: OpenStoreOptions): OpenStore {
  const { clock, limits, sign } = options;
  if (sign === undefined) throw new DumontError('UNSUPPORTED', 'there is no control plane to sign requests here');
  const store = paced(new PresignedStore(grant.profile, sign), limits, options);
  const limited = new AdaptiveLimitStore(store, { clock, ...storageProfile(grant.profile) });
  return assemble({ grant, store: new RetryStore(limited, options) }, options);
}

function paced(store: ObjectStore, limits: BandwidthLimits | undefined, { clock }: RetryOptions): ObjectStore {
  const isCapped = limits !== undefined && Object.values(limits).some((limit) => limit !== undefined);
  return limits !== undefined && isCapped ? new PacedStore(store, limits, clock) : store;
}

interface Parts {
  readonly grant: StorageGrant;
  readonly store: ObjectStore;
  readonly held?: HeldGrant;
  readonly owned?: AsyncDisposable;
}

function assemble({ grant, store, held, owned }: Parts, { clock }: RetryOptions): OpenStore {
  const metered = new MeteredStore(store, clock);
  const place = placeOfGrant(grant);
  return Object.assign(new PrefixStore(metered, grant.prefix), {
    throughput: () => metered.throughput(),
    renew(next: StorageGrant) {
      if (placeOfGrant(next) !== place) throw new DumontError('CONFLICT', 'the new storage grant is for another place');
      if (next.kind === 's3') held?.renew(next);
    },
    async [Symbol.asyncDispose]() {
      await owned?.[Symbol.asyncDispose]();
    },
  });
}
