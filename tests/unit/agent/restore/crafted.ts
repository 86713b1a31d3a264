import { randomBytes } from 'node:crypto';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { manifestKey, packKey } from '@dumont/shared/format/layout.ts';
import type { ChunkRow, Entry } from '@dumont/shared/format/manifest.ts';
import { encodePackIndex, type PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { storeManifest } from '../../../world/store-manifest.ts';

/** A chunk to put into a pack, coded as the engine would, or by hand. */
export interface CraftedChunk {
  readonly raw: Uint8Array;
  readonly pack: number;
  /** Row of the chunk it is stored as the difference to. */
  readonly base?: number;
}

export const METADATA = {
  mode: 0o644,
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
  mtimeNs: '1700000000000000000',
};

/** Writes a snapshot of the given entries straight to a store: for what no writer makes yet, or no honest one would. */
export async function craftSnapshot(
  store: ObjectStore,
  chunks: readonly CraftedChunk[],
  entries: Entry[],
): Promise<SnapshotRef> {
  const coder = new ChunkCoder({ secrets: null, effort: 'fast' });
  const packs = [...new Set(chunks.map((chunk) => chunk.pack))].map(() => randomBytes(16).toString('hex'));
  const contents = packs.map((): { frames: Uint8Array[]; index: PackIndexEntry[]; length: number } => ({
    frames: [],
    index: [],
    length: 0,
  }));
  const rows = chunks.map(({ raw, pack, base }): ChunkRow => {
    const { frame, codec } = coder.encode(raw, { base: base === undefined ? undefined : chunks[base]?.raw });
    const at = contents[pack];
    if (at === undefined) throw new Error('packs are numbered from 0');
    const chunkId = hashHex(raw);
    at.index.push({ chunkId, offset: at.length, storedLength: frame.length, rawLength: raw.length, codec });
    at.frames.push(frame);
    at.length += frame.length;
    const row: ChunkRow = [chunkId, pack, at.length - frame.length, frame.length, raw.length, codec];
    return codec === 'delta' && base !== undefined ? ([...row.slice(0, 6), base] as unknown as ChunkRow) : row;
  });
  for (const [row, packId] of packs.entries()) {
    const content = contents[row];
    if (content === undefined) continue;
    const tail = encodePackIndex(content.index, content.length);
    await store.put(packKey(packId), Buffer.concat([...content.frames, tail]));
  }
  const identity = {
    formatVersion: 1,
    tool: 'test/1',
    workspaceId: newId('workspace'),
    snapshotId: newId('snapshot'),
    writerId: 'test',
    epoch: 1,
    seq: 1,
    parent: null,
    startedAtMs: 0,
  };
  const key = manifestKey(identity);
  const sorted = entries.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const manifestHash = await storeManifest(store, key, { ...identity, packs, chunks: rows, entries: sorted });
  return { snapshotId: identity.snapshotId, manifestKey: key, manifestHash };
}
