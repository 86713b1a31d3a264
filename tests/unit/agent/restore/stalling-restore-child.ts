import { restoreSnapshot } from '@dumont/agent/restore/restorer.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { GetOptions } from '@dumont/agent/storage/object-store.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';

/** Serves some ranges of packs, then says so and never answers again: the parent kills this process in mid-restore. */
class StallingStore extends FileStore {
  #left = 3;

  override async get(key: string, options: GetOptions = {}): Promise<Uint8Array> {
    if (options.range !== undefined) {
      this.#left -= 1;
      if (this.#left < 0) {
        process.stdout.write('stalled\n');
        await systemClock.sleep(600_000);
      }
    }
    return super.get(key, options);
  }
}

const [, , storePath = '', target = '', snapshotText = ''] = process.argv;
await restoreSnapshot({
  store: new StallingStore(storePath),
  snapshot: JSON.parse(snapshotText) as SnapshotRef,
  target,
  clock: systemClock,
  deleteExtra: false,
});
