import { join } from 'node:path';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { restoreSnapshot } from '../restore/restorer.ts';
import { Snapshotter } from '../snapshot/snapshotter.ts';
import { StatCache } from '../snapshot/stat-cache.ts';
import { openStore } from '../storage/open-store.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import type { OpenEngine } from './engine.ts';

export interface StoreEngineOptions {
  readonly config: {
    readonly instanceId: InstanceId;
    readonly workspaceDir: string;
    readonly fileStoreMount: string | null;
    readonly stateDir: string;
  };
  readonly clock: Clock;
  readonly random: Random;
  readonly toolVersion: string;
}

/** The real engine: snapshots of the workspace folder to the object store of the grant. */
export function storeEngine(options: StoreEngineOptions): OpenEngine {
  const { config, clock, random, toolVersion } = options;
  const root = config.workspaceDir;
  return async ({ workspaceId, storage }) => {
    const mount = config.fileStoreMount === null ? {} : { fileMount: config.fileStoreMount };
    const store = await openStore(storage, { clock, random, ...mount });
    const writerId = config.instanceId;
    const statCache = new StatCache(join(config.stateDir, `${workspaceId}.stat`));
    const snapshotter = new Snapshotter({ store, root, workspaceId, writerId, clock, toolVersion, statCache });
    return {
      ignoreRules: () => loadIgnoreRules(root),
      create: (request) => snapshotter.create(request),
      restore: async (request) => {
        const restored = await restoreSnapshot({ ...request, store, target: root, clock, deleteExtra: true });
        // Nothing runs in the folder yet: what lies there is the snapshot, so the next one reads only what changes.
        await snapshotter.adopt(request.snapshot, { signal: request.signal });
        return restored;
      },
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  };
}
