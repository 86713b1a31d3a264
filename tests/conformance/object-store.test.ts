import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RequestSigner } from '@dumont/control-plane/storage/request-signer.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import { MODES, type SimulatorMode } from '../simulators/s3/quirks.ts';
import { fastClock } from '../world/fast-clock.ts';
import { openSimulatedS3 } from '../world/simulated-s3.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { describeObjectStore, keysOf, type OpenedStore } from './object-store-contract.ts';

const retrying = { clock: systemClock, random: seededRandom(1) };
/** Services that allow one write a second to a key make a test wait; it waits in this much faster time. */
const FASTER = 50;

async function openFolder(): Promise<OpenedStore> {
  const folder = await makeTempFolder();
  const store = await openStore({ kind: 'file', path: join(folder.path, 'store'), prefix: 'p/' }, retrying);
  return { store, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

/** A store whose every request is signed by the one who has the keys. */
async function openPresigned(profile: Exclude<SimulatorMode, 'ignorant'>): Promise<OpenedStore> {
  const clock = fastClock(FASTER);
  const opened = await openSimulatedS3({ mode: profile, clock }, { prefix: '' });
  const signer = new RequestSigner(opened.grant, clock);
  const workspaceId = newId('workspace');
  const grant = { kind: 'presigned', profile, signPath: '/sign', prefix: workspacePrefix(workspaceId) } as const;
  const sign = async (requests: Parameters<RequestSigner['sign']>[1]) => signer.sign({ workspaceId }, requests);
  const store = await openStore(grant, { clock, random: seededRandom(1), sign });
  return { store, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

const modes = Object.keys(MODES) as SimulatorMode[];

describeObjectStore('a folder', openFolder);
for (const mode of modes) {
  describeObjectStore(`simulated ${mode}`, () => openSimulatedS3({ mode, clock: fastClock(FASTER) }));
}

for (const mode of ['minio', 's3', 'b2', 'r2', 'wasabi'] as const) {
  describeObjectStore(`requests signed for ${mode}`, () => openPresigned(mode), { canDelete: false });
}

const atomic = modes.filter(
  (mode) => MODES[mode].conditionalPut === 'works' || MODES[mode].conditionalPut === 'conflicts',
);
const openers = atomic.map((mode) => [mode, () => openSimulatedS3({ mode, clock: fastClock(FASTER) })] as const);

test.each([['a folder', openFolder] as const, ...openers])(
  'of many simultaneous conditional writers on %s exactly one wins',
  async (_, open) => {
    await using opened = await open();
    const writers = Array.from({ length: 8 }, (_, n) =>
      opened.store.put('head', Buffer.from(`writer ${n}`), { ifAbsent: true }),
    );
    const outcomes = await Promise.all(writers);
    expect(outcomes.filter((outcome) => outcome === 'stored')).toHaveLength(1);
    const winner = outcomes.indexOf('stored');
    expect(Buffer.from(await opened.store.get('head')).toString()).toBe(`writer ${winner}`);
  },
);

test('a folder store leaves no temporary files and does not list those of a crashed one', async () => {
  await using folder = await makeTempFolder();
  const store = new FileStore(folder.path);
  await store.put('packs/a', Buffer.from('x'));
  await store.put('packs/a', Buffer.from('y'), { ifAbsent: true });
  expect(await readdir(join(folder.path, 'packs'))).toEqual(['a']);
  await writeFile(join(folder.path, 'packs', '.tmp-crashed'), 'half');
  expect(await keysOf(store, 'packs/')).toEqual(['packs/a']);
});

test('a mounted folder that is not there fails every call and is never made, and serves again when it is back', async () => {
  await using folder = await makeTempFolder();
  const [real, mount] = [join(folder.path, 'real'), join(folder.path, 'mount')];
  await mkdir(real);
  await symlink(real, mount);
  const store = await openStore({ kind: 'file', path: real, prefix: '' }, { ...retrying, fileMount: mount });
  await store.put('packs/one', Buffer.from('1'));
  await rm(mount);
  const unavailable = { code: 'UNAVAILABLE', retryable: true };
  await expect(store.put('packs/two', Buffer.from('2'))).rejects.toMatchObject(unavailable);
  await expect(store.get('packs/one')).rejects.toMatchObject(unavailable);
  await expect(store.stat('packs/one')).rejects.toMatchObject(unavailable);
  await expect(keysOf(store, '')).rejects.toMatchObject(unavailable);
  await expect(store.delete('packs/one')).rejects.toMatchObject(unavailable);
  expect(await readdir(folder.path)).toEqual(['real']);
  await symlink(real, mount);
  await store.put('top', Buffer.from('2'));
  expect(await keysOf(store, '')).toEqual(['packs/one', 'top']);
});
