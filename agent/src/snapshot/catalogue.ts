import { manifestPrefix, parseManifestKey, type ManifestName } from '@dumont/shared/format/layout.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { isVoid, readRevocations } from '../catalogue/revocations.ts';
import { hashHex } from './chunk-codec.ts';

/** More manifests than this in one workspace are listed no further. */
const MAX_SNAPSHOTS = 100_000;

/** A manifest found in a store. */
export interface CataloguedSnapshot extends ManifestName {
  readonly manifestKey: string;
  readonly manifestBytes: number;
}

/**
 * The manifests of a workspace, oldest first: by epoch, then sequence number, then id. For use without a control plane,
 * which alone knows what was committed: there, the last one counts as the newest. Void ones are left out.
 */
export async function listSnapshots(
  store: ObjectStore,
  workspaceId: WorkspaceId,
  options: CallOptions = {},
): Promise<readonly CataloguedSnapshot[]> {
  const found: CataloguedSnapshot[] = [];
  for await (const { key, sizeBytes } of store.list(manifestPrefix(workspaceId), options)) {
    const name = parseManifestKey(key);
    if (name === null) continue;
    if (found.length === MAX_SNAPSHOTS) {
      throw new DumontError('LIMIT', `workspace ${workspaceId} has more than ${MAX_SNAPSHOTS} snapshots`);
    }
    found.push({ ...name, manifestKey: key, manifestBytes: sizeBytes });
  }
  // After the manifests: a manifest that a prune did not wait for is void before it is stored or before it can break.
  const revocations = await readRevocations(store, options);
  return found.filter(({ snapshotId }) => !isVoid(revocations, snapshotId));
}

/** The newest snapshot of a workspace; null when it has none. */
export async function findLatest(
  store: ObjectStore,
  workspaceId: WorkspaceId,
  options: CallOptions = {},
): Promise<SnapshotRef | null> {
  const newest = (await listSnapshots(store, workspaceId, options)).at(-1);
  return newest === undefined ? null : refOf(store, newest, options);
}

/** The snapshot `latest` or of an id, or of the only id that starts so. @throws {DumontError} NOT_FOUND, USAGE */
export async function findSnapshot(
  store: ObjectStore,
  search: { readonly workspaceId: WorkspaceId; readonly name: string },
  options: CallOptions = {},
): Promise<SnapshotRef> {
  const { workspaceId, name } = search;
  const all = await listSnapshots(store, workspaceId, options);
  const fitting = name === 'latest' ? all.slice(-1) : all.filter((one) => one.snapshotId.startsWith(name));
  const [only, another] = fitting;
  if (only === undefined) {
    throw new DumontError('NOT_FOUND', `the store holds no snapshot ${name} of workspace ${workspaceId}`, {
      hint: 'List what it holds with: dumont-agent snapshots --from <store>',
    });
  }
  if (another !== undefined) {
    throw new DumontError('USAGE', `${name} is the beginning of ${fitting.length} snapshot ids`, { field: 'snapshot' });
  }
  return refOf(store, only, options);
}

/** Without a control plane nothing vouches for a manifest's hash: it is taken from the bytes found. */
async function refOf(store: ObjectStore, found: CataloguedSnapshot, options: CallOptions): Promise<SnapshotRef> {
  const bytes = await store.get(found.manifestKey, options);
  return { snapshotId: found.snapshotId, manifestKey: found.manifestKey, manifestHash: hashHex(bytes) };
}
