import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { ChunkIndex } from './chunk-index.ts';
import { listIndexObjects, loadChunkIndex } from './index-store.ts';
import type { WriterSession } from './writer-session.ts';

/**
 * What the store holds besides the parent's chunks, as far as index objects tell: all of it without a parent; else what is
 * newer than the parent, which is what a writer that was killed has left. Announces the session only if there is anything.
 * @param parentKey key of the parent's manifest
 */
export async function loadLeftovers(
  store: ObjectStore,
  session: WriterSession,
  options: CallOptions & { readonly parentKey: string | null },
): Promise<ChunkIndex> {
  const { parentKey, signal } = options;
  let sinceMs = 0;
  if (parentKey !== null) {
    for await (const { key, modifiedMs } of store.list(parentKey, { signal })) {
      if (key === parentKey) sinceMs = modifiedMs;
    }
  }
  const newer = (await listIndexObjects(store, { signal })).filter(({ modifiedMs }) => modifiedMs >= sinceMs);
  if (newer.length === 0) return new ChunkIndex(0);
  const sound = await session.listSoundPacks();
  return loadChunkIndex(store, { acceptsPack: (packId) => sound.has(packId), sinceMs, signal });
}
