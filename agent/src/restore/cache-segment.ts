import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { encodePackIndex, type PackIndexEntry } from '@dumont/shared/format/pack.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { OrderChunk } from './orders.ts';

/**
 * Keeps the frames of an order, all of them checked, as a pack of their own: whole under its name or not at all. A cache
 * that cannot be written to must not fail a restore, so it then does nothing.
 */
export function keepFrames(
  keep: { readonly path: string; readonly buffers: readonly number[] },
  order: { readonly buffers: readonly Uint8Array[]; readonly chunks: readonly OrderChunk[] },
): void {
  const parts: Uint8Array[] = [];
  const entries = new Map<string, PackIndexEntry>();
  let offset = 0;
  for (const { chunkId, buffer, start, storedLength, rawLength, codec } of order.chunks) {
    if (entries.has(chunkId) || !keep.buffers.includes(buffer)) continue;
    const bytes = must(order.buffers[buffer], 'every range of the order was fetched');
    parts.push(bytes.subarray(start, start + storedLength));
    entries.set(chunkId, { chunkId, offset, storedLength, rawLength, codec });
    offset += storedLength;
  }
  parts.push(encodePackIndex([...entries.values()], offset));
  const temporary = `${keep.path}.part`;
  try {
    writeFileSync(temporary, Buffer.concat(parts), { flag: 'wx', mode: 0o600 });
    renameSync(temporary, keep.path);
  } catch {
    rmSync(temporary, { force: true });
  }
}
