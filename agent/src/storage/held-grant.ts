import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';

/** The keys to a bucket as they are now: renewed while a store is open and requests are under way. */
export class HeldGrant {
  readonly #renewed = new Bell();
  #current: BucketGrant;

  constructor(grant: BucketGrant) {
    this.#current = grant;
  }

  get current(): BucketGrant {
    return this.#current;
  }

  /** Requests from now on are signed with this one; those under way end with the old one, which lives on for a while. */
  renew(grant: BucketGrant): void {
    this.#current = grant;
    this.#renewed.ring();
  }

  /** Resolves once another grant than `used` is held, or after `atMostMs`. @throws the signal's reason when aborted */
  async untilOtherThan(
    used: BucketGrant,
    options: { readonly clock: Clock; readonly atMostMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
    if (this.#current === used) await this.#renewed.wait(options);
  }
}

/** What a grant opens, without the keys: two grants of one place can take turns in an open store. Pure. */
export function placeOfGrant(grant: StorageGrant): string {
  if (grant.kind !== 's3') return JSON.stringify(grant);
  const { profile, endpoint, region, bucket, prefix, forcePathStyle } = grant;
  return JSON.stringify({ kind: 's3', profile, endpoint, region, bucket, prefix, forcePathStyle });
}
