import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { listReleases } from '@dumont/control-plane/releases/list-releases.ts';
import { expect, test } from 'vitest';
import { releaseOf } from '../../../world/agent-release.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

test('releases are listed newest first, without what is no release', async () => {
  await using folder = await makeTempFolder();
  expect(await listReleases(join(folder.path, 'missing'))).toEqual([]);
  const put = async (name: string, text: string) => {
    await mkdir(join(folder.path, name));
    await writeFile(join(folder.path, name, 'release.json'), text);
  };
  for (const version of ['1.9.0', '1.10.0', '1.10.0-rc.1']) {
    await put(version, JSON.stringify(releaseOf(version, Buffer.from(version)).release));
  }
  await put('2.0.0', JSON.stringify(releaseOf('1.0.0', Buffer.from('x')).release));
  await put('3.0.0', '{');
  await put('latest', JSON.stringify(releaseOf('4.0.0', Buffer.from('x')).release));
  await mkdir(join(folder.path, '5.0.0'));
  await writeFile(join(folder.path, '6.0.0'), '');
  const versions = (await listReleases(folder.path)).map(({ version }) => version);
  expect(versions).toEqual(['1.10.0', '1.10.0-rc.1', '1.9.0']);
});
