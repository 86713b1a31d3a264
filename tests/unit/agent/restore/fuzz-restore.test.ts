import { mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { PACKS_PREFIX } from '@dumont/shared/format/layout.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { fuzz, mutate, mutateJson } from '../../../world/fuzz.ts';
import { storeManifest, type StoredParts } from '../../../world/store-manifest.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';

const MIB = 1_048_576;
/** What a restore of some kilobytes takes, with the planes of its decoder. */
const BUDGET = 64 * MIB;
/** Hundreds of restores, on a machine that may be busy. */
const TIMEOUT_MS = 120_000;
const CANARY = 'must never change';

/** A folder with a snapshot, and around the target what no restore may touch. */
async function openGround() {
  const engine = await openEngine();
  await mkdir(join(engine.root, 'a/b'), { recursive: true });
  for (const path of ['f', 'a/g', 'a/b/h']) await writeFile(join(engine.root, path), `content of ${path} `.repeat(500));
  await symlink('../canary', join(engine.root, 'a/link'));
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const top = dirname(engine.root);
  await mkdir(join(top, 'canaries'));
  await writeFile(join(top, 'canary'), CANARY);
  await writeFile(join(top, 'canaries/g'), CANARY);
  return { engine, record, top, [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose]() };
}

/** The target as a stranger left it: a link where the snapshot has a folder, another where it has a file. */
async function prepareTarget(target: string, top: string): Promise<void> {
  await rm(target, { recursive: true, force: true });
  await mkdir(target);
  await symlink(join(top, 'canaries'), join(target, 'a'));
  await symlink(join(top, 'canary'), join(target, 'f'));
}

async function expectCanaries(top: string): Promise<void> {
  expect((await readdir(top)).toSorted()).toEqual(['canaries', 'canary', 'store', 'target', 'ws']);
  expect(await readdir(join(top, 'canaries'))).toEqual(['g']);
  for (const path of ['canary', 'canaries/g']) expect(await readFile(join(top, path), 'utf8')).toBe(CANARY);
}

/** A manifest may also ask for what the disk or the target's state does not allow. */
async function restoreOrRefuse(restored: Promise<unknown>): Promise<void> {
  try {
    await restored;
  } catch (error) {
    if (!isDumontError(error, 'CONFLICT')) throw error;
  }
}

test('no change to a manifest makes a restore write outside its folder', { timeout: TIMEOUT_MS }, async () => {
  await using ground = await openGround();
  const { engine, record, top } = ground;
  const { manifest } = await readManifest(engine.store, record);
  const { accepted, refused } = await fuzz({ inputs: 500, maxAllocatedBytes: BUDGET }, async (input) => {
    const change = (parts: StoredParts): StoredParts => {
      const changed = mutateJson(parts, seededRandom(input)) as Partial<StoredParts> | null;
      return { root: changed?.root ?? {}, segment: changed?.segment ?? null };
    };
    const manifestHash = await storeManifest(engine.store, record.manifestKey, manifest, change);
    await prepareTarget(engine.target, top);
    const snapshot = { ...record, manifestHash };
    await restoreOrRefuse(engine.restore(snapshot, { deleteExtra: input % 2 === 0 }));
    await expectCanaries(top);
  });
  expect(refused).toBeGreaterThan(100);
  expect(accepted).toBeGreaterThan(10);
});

test(
  'no change to a pack makes a restore leave other bytes than the snapshot has',
  { timeout: TIMEOUT_MS },
  async () => {
    await using ground = await openGround();
    const { engine, record, top } = ground;
    const packs = new Map<string, Uint8Array>();
    for await (const { key } of engine.store.list(PACKS_PREFIX)) packs.set(key, await engine.store.get(key));
    const { accepted, refused } = await fuzz({ inputs: 300, maxAllocatedBytes: BUDGET }, async (input) => {
      for (const [key, bytes] of packs)
        await writeFile(join(engine.storePath, key), mutate(bytes, seededRandom(input)));
      await prepareTarget(engine.target, top);
      try {
        await engine.restore(record, { deleteExtra: true });
      } finally {
        await expectWholeFiles(engine);
        await expectCanaries(top);
      }
    });
    expect(Math.min(accepted, refused)).toBeGreaterThan(10);
  },
);

/** Every file there, restored or not, is what it was when the snapshot was taken. */
async function expectWholeFiles({ target, root }: Engine): Promise<void> {
  for (const entry of await readdir(target, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile()) continue;
    expect(await readFile(path, 'utf8')).toBe(await readFile(join(root, path.slice(target.length)), 'utf8'));
  }
}
