import { rotatePassword } from '@dumont/agent/secrets/key-admin.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { PutOptions } from '@dumont/agent/storage/object-store.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { QUICK_KEY } from '../../../world/quick-key.ts';

/** Lets some changes through, then says so and changes nothing any more: the parent kills this process there. */
class StallingStore extends FileStore {
  #left: number;

  constructor(path: string, changes: number) {
    super(path);
    this.#left = changes;
  }

  override async put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<'stored' | 'exists'> {
    await this.#stall();
    return super.put(key, bytes, options);
  }

  override async delete(key: string): Promise<void> {
    await this.#stall();
    return super.delete(key);
  }

  async #stall(): Promise<void> {
    this.#left -= 1;
    if (this.#left >= 0) return;
    process.stdout.write('stalled\n');
    await systemClock.sleep(600_000);
  }
}

const [, , storePath = '', changes = ''] = process.argv;
await rotatePassword(new StallingStore(storePath, Number(changes)), 'old', { password: 'new', key: QUICK_KEY });
process.stdout.write('done\n');
