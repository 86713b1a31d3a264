import {
  MANIFESTS_PREFIX,
  PACKS_PREFIX,
  parseManifestKey,
  parsePackKey,
  parseSessionKey,
  SESSIONS_PREFIX,
  type ManifestName,
} from '@dumont/shared/format/layout.ts';
import type { SnapshotId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

/** Objects of one kind a prune or a check holds in memory: 16 TB of packs. */
const MAX_LISTED = 1_000_000;

interface ListedObject {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

export interface ListedManifest extends ManifestName, ListedObject {
  readonly manifestKey: string;
}

/** Every manifest of every workspace, ascending by key. @throws {DumontError} LIMIT */
export function listManifests(store: ObjectStore, options: CallOptions = {}): Promise<readonly ListedManifest[]> {
  return listAs(store, { ...options, prefix: MANIFESTS_PREFIX }, (key, found) => {
    const name = parseManifestKey(key);
    return name === null ? null : { ...name, ...found, manifestKey: key };
  });
}

/** Every pack by its id. @throws {DumontError} LIMIT */
export async function listPacks(
  store: ObjectStore,
  options: CallOptions = {},
): Promise<ReadonlyMap<string, ListedObject>> {
  const packs = await listAs(store, { ...options, prefix: PACKS_PREFIX }, (key, found) => {
    const packId = parsePackKey(key);
    return packId === null ? null : ([packId, found] as const);
  });
  return new Map(packs);
}

/** Every announced writer by the id of its snapshot. @throws {DumontError} LIMIT */
export async function listSessions(
  store: ObjectStore,
  options: CallOptions = {},
): Promise<ReadonlyMap<SnapshotId, ListedObject>> {
  const sessions = await listAs(store, { ...options, prefix: SESSIONS_PREFIX }, (key, found) => {
    const snapshotId = parseSessionKey(key);
    return snapshotId === null ? null : ([snapshotId, found] as const);
  });
  return new Map(sessions);
}

async function listAs<Item>(
  store: ObjectStore,
  { prefix, signal }: CallOptions & { readonly prefix: string },
  toItem: (key: string, found: ListedObject) => Item | null,
): Promise<readonly Item[]> {
  const items: Item[] = [];
  for await (const { key, sizeBytes, modifiedMs } of store.list(prefix, { signal })) {
    const item = toItem(key, { sizeBytes, modifiedMs });
    if (item === null) continue;
    if (items.length === MAX_LISTED) {
      throw new DumontError('LIMIT', `the store holds more than ${MAX_LISTED} objects below ${prefix}`);
    }
    items.push(item);
  }
  return items;
}
