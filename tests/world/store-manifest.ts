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
  const {
    packs = [],
    chunks = [],
    entries = [],
    ...identity
  } = (value ?? {}) as Partial<Manifest> & Record<string, unknown>;
  const list = Array.isArray(entries) ? entries : [];
  const [first] = list;
  const counts = {
    entries: list.length,
    files: list.filter(({ type }) => type === 'file' || type === 'hardlink').length,
    bytes: list.reduce((sum, entry) => sum + (entry.type === 'file' ? entry.size : 0), 0),
  };
  const segments =
    list.length === 0
      ? []
      : [
          {
            first: first?.path,
            entries: list.length,
            chunks: [...rowsOf(JSON.stringify({ packs, chunks, entries }).length)],
          },
        ];
  const parts = change({ root: { ...identity, counts, segments }, segment: { packs, chunks, entries } });
  const json = Buffer.from(JSON.stringify(parts.segment));
  const packId = randomBytes(16).toString('hex');
  const { pack, rows } = packOf(json);
  await store.put(packKey(packId), pack);
  const root = typeof value === 'object' ? { packs: [packId], chunks: rows, ...parts.root } : value;
  const bytes = encodeFrames(Buffer.from(JSON.stringify(root)));
  await store.put(key, bytes);
  return hashHex(bytes);
}

const PART_BYTES = 4 * 1_048_576;

function rowsOf(length: number): Iterable<number> {
  return Array(Math.ceil(length / PART_BYTES)).keys();
}

function packOf(json: Buffer) {
  const frames: Uint8Array[] = [];
  const rows: unknown[] = [];
  let offset = 0;
  for (const part of rowsOf(json.length)) {
    const raw = json.subarray(part * PART_BYTES, (part + 1) * PART_BYTES);
    const frame = Buffer.from(encodeFrames(raw));
    // The highest bit of a block's length says that it is stored.
    const codec = frame.readUInt32LE(15) >= 0x8000_0000 ? 'stored' : 'lz4';
    rows.push([hashHex(raw), 0, offset, frame.length, raw.length, codec]);
    frames.push(frame);
    offset += frame.length;
  }
  return { pack: Buffer.concat(frames), rows };
}
