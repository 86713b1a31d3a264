import { randomBytes } from 'node:crypto';
import type { Manifest } from '@dumont/shared/format/manifest.ts';
import { packKey } from '@dumont/shared/format/layout.ts';
import { encodeFrames, hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';

/** A stored segment: its JSON and what the root says of it. */
export interface StoredParts {
  readonly root: Record<string, unknown>;
  readonly segment: unknown;
}

/**
 * Stores whatever is given as a manifest of one segment, unchecked. `change` may make anything of the root and the
 * segment that a correct writer would store for `value`.
 * @returns the hash of the manifest object
 */
export async function storeManifest(
  store: ObjectStore,
  key: string,
  value: unknown,
  change: (parts: StoredParts) => StoredParts = (parts) => parts,
): Promise<string> {
  const { packs = [], chunks = [], entries = [], ...identity } = (value ?? {}) as Manifest & Record<string, unknown>;
  const list = Array.isArray(entries) ? entries : [];
  const [first] = list;
  const counts = {
    entries: list.length,
    files: list.filter(({ type }) => type === 'file' || type === 'hardlink').length,
    bytes: list.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0),
  };
  const segments = list.length === 0 ? [] : [{ first: first?.path, entries: list.length, chunks: [0] }];
  const parts = change({ root: { ...identity, counts, segments }, segment: { packs, chunks, entries } });
  const json = Buffer.from(JSON.stringify(parts.segment));
  const frame = await encodeFrames(json);
  const packId = randomBytes(16).toString('hex');
  await store.put(packKey(packId), frame);
  const codec = frame.length < json.length ? 'lz4' : 'stored';
  const row = [hashHex(json), 0, 0, frame.length, json.length, codec];
  const root = typeof value === 'object' ? { packs: [packId], chunks: [row], ...parts.root } : value;
  const bytes = await encodeFrames(Buffer.from(JSON.stringify(root)));
  await store.put(key, bytes);
  return hashHex(bytes);
}
