import { INDEX_ENTRY_BYTES, MAX_INDEX_ENTRIES, type IndexObject } from '@dumont/shared/format/index-object.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { indexEntries } from './chunk-index.ts';
import { IndexPacker, listIndexObjects, readIndexObject } from './index-store.ts';

/** Objects with fewer entries are worth merging. */
const SMALL_ENTRIES = MAX_INDEX_ENTRIES / 2;

/**
 * Rewrites the index objects that name packs about to be deleted, without those, and merges small ones. What is new is
 * stored before what it replaces is deleted; done twice, or by two programs at once, it loses nothing.
 */
export async function dropPacksFromIndex(
  store: ObjectStore,
  dead: ReadonlySet<string>,
  options: CallOptions = {},
): Promise<void> {
  const packer = new IndexPacker(store, options);
  const replaced: string[] = [];
  for (const info of await listIndexObjects(store, options)) {
    let object: IndexObject | null;
    try {
      object = await readIndexObject(store, info, options);
    } catch (error) {
      // Damage is what fsck reports and repairs; readers pass over it.
      if (isDumontError(error, 'CORRUPT')) continue;
      throw error;
    }
    if (object === null) continue;
    const isSmall = object.entries.length < SMALL_ENTRIES * INDEX_ENTRY_BYTES;
    if (!isSmall && !object.packIds.some((packId) => dead.has(packId))) continue;
    const packIds = object.packIds.filter((packId) => !dead.has(packId));
    await packer.add(
      packIds,
      [...indexEntries(object)].filter(({ packId }) => !dead.has(packId)),
    );
    replaced.push(info.key);
  }
  await packer.flush();
  for (const key of replaced) await store.delete(key, options);
}
