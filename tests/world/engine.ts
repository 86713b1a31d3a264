import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord, SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { restoreSnapshot, type RestoreOptions, type RestoreOutcome } from '@dumont/agent/restore/restorer.ts';
import type { SnapshotOutcome } from '@dumont/agent/snapshot/snapshot-outcome.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import type { CodingOptions } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { makeTempFolder } from './temp-folder.ts';

/** A workspace folder, a folder store and one snapshotter over them, in a temporary folder. */
export interface Engine extends AsyncDisposable {
  readonly root: string;
  readonly target: string;
  readonly storePath: string;
  readonly store: FileStore;
  readonly snapshotter: Snapshotter;
  /** A second snapshotter of the same workspace that remembers nothing, as after a restart; of another folder if given. */
  restarted(root?: string): Snapshotter;
  restore(snapshot: SnapshotRef, options?: Partial<RestoreOptions>): Promise<RestoreOutcome>;
}

/** @param coding also the secrets of its restores */
export async function openEngine(coding?: CodingOptions): Promise<Engine> {
  const folder = await makeTempFolder();
  const [root, target, storePath] = [join(folder.path, 'ws'), join(folder.path, 'target'), join(folder.path, 'store')];
  await mkdir(root);
  const store = new FileStore(storePath);
  const workspaceId = newId('workspace');
  const restarted = (at = root) =>
    new Snapshotter({
      store,
      root: at,
      workspaceId,
      writerId: 'test',
      clock: systemClock,
      toolVersion: 'test',
      coding,
    });
  return {
    root,
    target,
    storePath,
    store,
    snapshotter: restarted(),
    restarted,
    restore: (snapshot, options) =>
      restoreSnapshot({
        store,
        snapshot,
        target,
        clock: systemClock,
        deleteExtra: false,
        secrets: coding?.secrets,
        ...options,
      }),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** The record of a snapshot that must have been made. */
export function created(outcome: SnapshotOutcome): SnapshotRecord {
  if (outcome.kind !== 'created') throw new Error(`expected a new snapshot, it is ${outcome.kind}`);
  return outcome.record;
}
