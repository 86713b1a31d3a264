import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { BaseReader } from '@dumont/agent/snapshot/writing/base-file.ts';
import { seededBytes } from '../../../../world/chunking.ts';
import { makeTempFolder } from '../../../../world/temp-folder.ts';

const KIB = 1_024;

test('a base is the chunk at the same place, of the same length, with the bytes its id says', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'before');
  const bytes = seededBytes(400 * KIB, 1);
  writeFileSync(path, bytes);
  const chunkAt = (offset: number, length: number) => ({
    id: hashHex(bytes.subarray(offset, offset + length)),
    offset,
    length,
  });
  const changed = { ...chunkAt(100 * KIB, 100 * KIB), id: hashHex(Buffer.from('what it was')) };
  const beyond = { ...chunkAt(0, 100 * KIB), offset: 350 * KIB };
  const chunks = [chunkAt(0, 100 * KIB), changed, chunkAt(200 * KIB, 32 * KIB), chunkAt(232 * KIB, 90 * KIB), beyond];
  using reader = new BaseReader({ path, chunks }, hashHex, Buffer.alloc(4 * KIB * KIB));
  const base = reader.baseOf({ offset: 0, length: 100 * KIB });
  expect(base?.chunkId).toBe(chunks[0]?.id);
  expect(base?.raw.equals(bytes.subarray(0, 100 * KIB))).toBe(true);
  expect(reader.baseOf({ offset: 0, length: 90 * KIB })).toBeNull();
  expect(reader.baseOf({ offset: 50 * KIB, length: 100 * KIB })).toBeNull();
  expect(reader.baseOf({ offset: 100 * KIB, length: 100 * KIB })).toBeNull();
  expect(reader.baseOf({ offset: 200 * KIB, length: 32 * KIB })).toBeNull();
  expect(reader.baseOf({ offset: 350 * KIB, length: 100 * KIB })).toBeNull();
  expect(reader.baseOf({ offset: 232 * KIB, length: 90 * KIB })?.chunkId).toBe(chunks[3]?.id);
});

test('a base file that is gone is no base', async () => {
  await using folder = await makeTempFolder();
  const chunks = [{ id: 'any', offset: 0, length: 100 * KIB }];
  using reader = new BaseReader({ path: join(folder.path, 'none'), chunks }, hashHex, Buffer.alloc(4 * KIB * KIB));
  expect(reader.baseOf({ offset: 0, length: 100 * KIB })).toBeNull();
  expect(reader.baseOf({ offset: 0, length: 100 * KIB })).toBeNull();
});
