import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DEMO_HELP, readDemoOptions } from '@dumont/control-plane/demo/options.ts';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

test('without flags the demo is interactive, with its own sample and its usual port', async () => {
  expect(await readDemoOptions([])).toEqual({
    scenario: undefined,
    loss: 'kill',
    json: false,
    workspace: undefined,
    dataDirectory: undefined,
    port: undefined,
    standby: false,
    help: false,
  });
});

test('every flag is read', async () => {
  await using folder = await makeTempFolder();
  const flags = ['--scenario', 'spot-loss', '--loss', 'freeze', '--json', '--port', '0'];
  const options = await readDemoOptions([...flags, '--workspace', folder.path, '--data-dir', folder.path]);
  expect(options).toMatchObject({ scenario: 'spot-loss', loss: 'freeze', json: true, port: 0 });
  expect(options).toMatchObject({ workspace: folder.path, dataDirectory: folder.path });
  expect((await readDemoOptions(['-h'])).help).toBe(true);
});

test('every flag is in the help', () => {
  for (const flag of ['workspace', 'scenario', 'loss', 'json', 'port', 'data-dir', 'help']) {
    expect(DEMO_HELP).toContain(`--${flag}`);
  }
});

test.each([
  [['--scenario', 'meteor'], '--scenario'],
  [['--scenario', 'spot-loss', '--loss', 'melt'], '--loss'],
  [['--loss', 'kill'], '--loss'],
  [['--json'], '--json'],
  [['--port', '65536'], '--port'],
  [['--port', '-1'], undefined],
  [['--port', '80x'], '--port'],
  [['--port', ''], '--port'],
  [['--workspace', '/does/not/exist'], '--workspace'],
  [['--colour'], undefined],
  [['folder'], undefined],
])('%j is refused with a way out', async (argv, field) => {
  const failure = await readDemoOptions(argv).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 'USAGE', hint: expect.any(String) as string });
  if (field !== undefined) expect(failure).toMatchObject({ field });
});

test('a file is no workspace', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'file');
  await writeFile(path, '');
  await expect(readDemoOptions(['--workspace', path])).rejects.toThrow(/is not a folder/);
});
