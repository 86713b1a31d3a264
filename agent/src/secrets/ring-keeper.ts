import type { Clock } from '@dumont/shared/util/clock.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { openKeyRing, secretsFor, type KeyRing } from './key-ring.ts';

export interface RingKeeperOptions {
  readonly store: ObjectStore;
  readonly password: string | null;
  /** Label of the key when this is the first to write. */
  readonly label: string;
  readonly clock: Clock;
}

/**
 * Opens one store when it is first needed, which takes half a second, and keeps its keys in memory. A failure is not kept:
 * the next call tries again.
 */
export class RingKeeper {
  readonly #options: RingKeeperOptions;
  #opened: { readonly ring: KeyRing | null } | null = null;

  constructor(options: RingKeeperOptions) {
    this.#options = options;
  }

  /**
   * The secrets to read a snapshot or write the one after it; null for a store that is not encrypted. May make the key of
   * an empty store.
   * @throws {DumontError} as `openKeyRing` and `secretsFor`
   */
  async secretsFor(snapshot: SnapshotRef | null, options: CallOptions = {}): Promise<StoreSecrets | null> {
    const { store, password, label, clock } = this.#options;
    if (this.#opened === null) {
      const create = { createdAtMs: clock.nowMs(), label };
      this.#opened = { ring: await openKeyRing(store, password, { create, signal: options.signal }) };
    }
    return secretsFor(this.#opened.ring, store, snapshot, options);
  }
}
