import { mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UpgradeNotes } from '@dumont/agent/upgrade/upgrade-notes.ts';
import { Upgrader } from '@dumont/agent/upgrade/upgrader.ts';
import type { AgentRelease } from '@dumont/shared/model/agent-release.ts';
import type { LastUpgrade } from '@dumont/shared/protocol/hello.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { agentScript, installVersion, releaseOf, serveBytes, THIS_ARCH } from '../../../world/agent-release.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const options = { onProgress: () => {}, signal: new AbortController().signal };

/** Version 1.0.0, installed in a folder of its own. */
async function installed(change: { lastUpgrade?: LastUpgrade; arch?: string; installDir?: null } = {}) {
  const folder = await makeTempFolder();
  const prefix = join(folder.path, 'prefix');
  const stateDir = join(folder.path, 'state');
  await mkdir(stateDir);
  await installVersion(prefix, '1.0.0');
  const upgrader = new Upgrader({
    installDir: prefix,
    controlUrl: 'ws://127.0.0.1:1/base/',
    ownVersion: '1.0.0',
    notes: new UpgradeNotes(stateDir),
    lastUpgrade: null,
    arch: THIS_ARCH,
    clock: systemClock,
    random: { next: () => 0 },
    ...change,
  });
  const order = (release: AgentRelease, downloadUrl: string, force = false) =>
    upgrader.perform({ name: 'upgrade', release, downloadUrl, force }, options);
  const versions = async () => (await readdir(join(prefix, 'versions'))).sort();
  const untouched = async () => {
    expect(await readlink(join(prefix, 'current'))).toBe(join('versions', '1.0.0'));
    expect(await readdir(stateDir)).toEqual([]);
  };
  return {
    prefix,
    stateDir,
    upgrader,
    order,
    versions,
    untouched,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test('a release is downloaded, tried, noted and switched to', async () => {
  await using here = await installed();
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  await using downloads = await serveBytes(gz);
  expect(await here.order(release, downloads.url)).toEqual({ name: 'upgrade', from: '1.0.0', to: '1.1.0' });
  expect(await readlink(join(here.prefix, 'current'))).toBe(join('versions', '1.1.0'));
  expect(await readFile(join(here.stateDir, 'upgrade.pending'), 'utf8')).toBe('from=1.0.0\nto=1.1.0\n');
  expect(await here.versions()).toEqual(['1.0.0', '1.1.0']);
});

test('an interrupted download goes on where it ended', async () => {
  await using here = await installed();
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  let isFirst = true;
  await using downloads = await serveBytes(gz, (_request, response) => {
    if (!isFirst) return false;
    isFirst = false;
    response.writeHead(200).end(gz.subarray(0, 100));
    return true;
  });
  await here.order(release, downloads.url);
  expect(downloads.ranges).toEqual([undefined, 'bytes=100-']);
});

test('bytes that are not the promised ones are refused and forgotten, and the next attempt gets the right ones', async () => {
  await using here = await installed();
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  const wrong = Buffer.from(gz);
  wrong.writeUInt8(wrong.readUInt8(40) ^ 1, 40);
  await using bad = await serveBytes(wrong);
  await expect(here.order(release, bad.url)).rejects.toMatchObject({ code: 'CORRUPT' });
  await here.untouched();
  await using good = await serveBytes(gz);
  expect(await here.order(release, good.url)).toMatchObject({ to: '1.1.0' });
});

test('an archive that unpacks to more than promised is cut off', async () => {
  await using here = await installed();
  const { release, gz } = releaseOf('1.1.0', Buffer.alloc(5_000_000));
  const [build] = release.builds;
  if (build === undefined) throw new Error('a release has a build');
  const small = { ...release, builds: [{ ...build, bytes: 1_000 }] };
  await using downloads = await serveBytes(gz);
  await expect(here.order(small, downloads.url)).rejects.toMatchObject({ code: 'CORRUPT' });
  await here.untouched();
});

test('a download larger than promised is cut off', async () => {
  await using here = await installed();
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  await using downloads = await serveBytes(Buffer.concat([gz, Buffer.alloc(1_000)]));
  await expect(here.order(release, downloads.url)).rejects.toMatchObject({ code: 'LIMIT' });
  await here.untouched();
});

test('a version that does not run here, or is another than it says, is not switched to', async () => {
  await using here = await installed();
  const lie = releaseOf('1.1.0', agentScript('6.6.6'));
  await using lies = await serveBytes(lie.gz);
  await expect(here.order(lie.release, lies.url)).rejects.toMatchObject({ code: 'CORRUPT' });
  const dead = releaseOf('1.2.0', Buffer.from('#!/nowhere/sh\n'));
  await using deads = await serveBytes(dead.gz);
  await expect(here.order(dead.release, deads.url)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  await here.untouched();
});

test('what a host cannot or should not do is refused with a word that says why', async () => {
  const newer = releaseOf('1.1.0', agentScript('1.1.0')).release;
  const older = releaseOf('0.9.0', agentScript('0.9.0')).release;
  await using here = await installed();
  expect(await here.order({ ...newer, version: '1.0.0' }, '/x/')).toMatchObject({ from: '1.0.0', to: '1.0.0' });
  await expect(here.order(older, '/x/')).rejects.toMatchObject({ code: 'CONFLICT' });
  await using foreign = await installed({ arch: 'mips' });
  await expect(foreign.order(newer, '/x/')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  await using loose = await installed({ installDir: null });
  await expect(loose.order(newer, '/x/')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  const lastUpgrade = { from: '1.0.0', to: '1.1.0', outcome: 'rolled-back', reason: 'it crashed' } as const;
  await using burnt = await installed({ lastUpgrade });
  await expect(burnt.order(newer, '/x/')).rejects.toMatchObject({ code: 'CONFLICT' });
  for (const each of [here, foreign, loose, burnt]) await each.untouched();
});

test('a release that is gone from the server says so at once', async () => {
  await using here = await installed();
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  await using downloads = await serveBytes(gz, (_request, response) => {
    response.writeHead(404).end();
    return true;
  });
  await expect(here.order(release, downloads.url)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(downloads.ranges).toHaveLength(1);
});

test('a note that cannot be understood says nothing', async () => {
  await using here = await installed();
  await writeFile(join(here.stateDir, 'upgrade.failed'), 'from=1');
  expect(await new UpgradeNotes(here.stateDir).lastUpgrade('1.0.0')).toBeNull();
  await writeFile(join(here.stateDir, 'upgrade.pending'), 'from=0.9.0\nto=0.9.1\n');
  expect(await new UpgradeNotes(here.stateDir).lastUpgrade('0.9.0')).toMatchObject({ outcome: 'rolled-back' });
});

test('an upgrade that comes right after the welcome is not tidied away, nor its note by a reconnect', async () => {
  await using here = await installed({ lastUpgrade: { from: '0.9.0', to: '1.0.0', outcome: 'upgraded' } });
  await mkdir(join(here.prefix, 'versions', '0.8.0'));
  const { release, gz } = releaseOf('1.1.0', agentScript('1.1.0'));
  await using downloads = await serveBytes(gz);
  const welcomed = here.upgrader.welcomed();
  await here.order(release, downloads.url);
  await welcomed;
  await here.upgrader.welcomed();
  expect(await here.versions()).toEqual(['1.0.0', '1.1.0']);
  expect(await readdir(here.stateDir)).toEqual(['upgrade.pending']);
});
