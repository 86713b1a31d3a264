import { join } from 'node:path';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { mergeBranch } from '../branches/merge-branch.ts';
import { summarize } from '../branches/summarize.ts';
import { treeOf } from '../branches/tree.ts';
import type { Identity } from '../identity/credential-file.ts';
import { MemoryKeeper } from '../host/memory-keeper.ts';
import { checkFolder } from '../restore/check-folder.ts';
import { RestoreMemory } from '../restore/restore-memory.ts';
import { restoreSnapshot } from '../restore/restorer.ts';
import { RingKeeper } from '../secrets/ring-keeper.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { linkEffort } from '../snapshot/planes/effort.ts';
import { Snapshotter } from '../snapshot/snapshotter.ts';
import { StatCache } from '../snapshot/stat-cache.ts';
import { openStore } from '../storage/open-store.ts';
import type { UploadShare } from '../storage/upload-share.ts';
import type { SignRequests } from '../storage/url-desk.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import type { OpenEngine } from './engine.ts';

export interface StoreEngineOptions {
  /** Who writes: the instance. */
  readonly identity: Pick<Identity, 'instanceId'>;
  readonly config: {
    readonly workspaceDir: string;
    readonly fileStoreMount: string | null;
    readonly secrets: { readonly snapshotPassword: string | null };
    readonly stateDir: string;
  };
  readonly clock: Clock;
  readonly random: Random;
  readonly toolVersion: string;
  /** Needed for `presigned` grants only. */
  readonly sign?: SignRequests;
  /** The cap on what leaves the machine; snapshots get what sync leaves of it. */
  readonly uploads?: UploadShare | undefined;
}

/** The real engine: snapshots of the workspace folder to the object store of the grant. */
export function storeEngine(options: StoreEngineOptions): OpenEngine {
  const { config, clock, random, toolVersion, sign, uploads } = options;
  const root = config.workspaceDir;
  return async ({ workspaceId, storage }) => {
    const mount = config.fileStoreMount === null ? {} : { fileMount: config.fileStoreMount };
    const limits = uploads && { takeUpload: (bytes: number, signal?: AbortSignal) => uploads.rest(bytes, signal) };
    const store = await openStore(storage, { clock, random, sign, limits, ...mount });
    const writerId = options.identity.instanceId;
    const statCache = new StatCache(join(config.stateDir, `${workspaceId}.stat`));
    const keys = new RingKeeper({ store, password: config.secrets.snapshotPassword, label: writerId, clock });
    // One for each master key that heads are encrypted under: one, but for two first writers that missed each other.
    const snapshotters = new Map<string | null, Snapshotter>();
    const snapshotterFor = (secrets: StoreSecrets | null): Snapshotter => {
      const masterId = secrets?.masterId ?? null;
      const coding = { secrets, effort: 'fast' } as const;
      const snapshotter =
        snapshotters.get(masterId) ??
        new Snapshotter({ store, root, workspaceId, writerId, clock, toolVersion, coding, statCache });
      snapshotters.set(masterId, snapshotter);
      return snapshotter;
    };
    const memory = new MemoryKeeper();
    let isMerging = false;
    // A replacement restores again and again while it draws near to a machine that works on.
    const restored = new RestoreMemory();
    return {
      renew: (grant) => store.renew(grant),
      ignoreRules: () => loadIgnoreRules(root),
      create: async (request) => {
        const secrets = await keys.secretsFor(request.parent, { signal: request.signal });
        const effort = linkEffort(storage, store.throughput());
        const outcome = await snapshotterFor(secrets).create({ ...request, effort });
        memory.release();
        return outcome;
      },
      compare: async ({ base, snapshot, signal }) => {
        const read = async (ref: SnapshotRef) => {
          const secrets = await keys.secretsFor(ref, { signal });
          return (await readManifest(store, ref, { secrets, signal })).manifest;
        };
        return summarize(treeOf(base === null ? null : await read(base)), treeOf(await read(snapshot)));
      },
      merge: async (request) => {
        // Two of one branch would put their files in the same place first.
        if (isMerging) throw new DumontError('CONFLICT', 'another merge runs', { retryable: true });
        isMerging = true;
        try {
          const secretsFor = (ref: SnapshotRef) => keys.secretsFor(ref, { signal: request.signal });
          return await mergeBranch({ ...request, store, secretsFor, root, clock });
        } finally {
          isMerging = false;
        }
      },
      restore: async (request) => {
        const { snapshot, signal } = request;
        const secrets = await keys.secretsFor(snapshot, { signal });
        const place = { store, secrets, target: root, memory: restored, clock } as const;
        const outcome = await restoreSnapshot({ ...request, ...place, deleteExtra: true });
        // Nothing runs in the folder yet: what lies there is the snapshot, so the next one reads only what changes.
        await snapshotterFor(secrets).adopt(snapshot, { signal });
        return outcome;
      },
      check: async ({ snapshot, signal, onProgress }) => {
        const secrets = await keys.secretsFor(snapshot, { signal });
        const { manifest, root: sums } = await readManifest(store, snapshot, { secrets, signal });
        const ignore = await loadIgnoreRules(root);
        const { files: totalFiles, bytes: totalBytes } = sums.counts;
        return checkFolder({
          root,
          manifest,
          secrets,
          ignore,
          clock,
          onProgress: ({ bytes, files }) => onProgress({ doneBytes: bytes, totalBytes, doneFiles: files, totalFiles }),
          signal,
        });
      },
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  };
}
