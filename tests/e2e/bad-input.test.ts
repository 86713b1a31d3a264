import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { CONTROL_PLANE_MAIN, DEMO_MAIN, runProgram, type Outcome } from '../world/run-program.ts';
import { AGENT_MAIN, Site } from '../world/site.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

/** A program whose home and temporary folder are one empty folder, and what it left there. */
async function runFresh(
  main: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome & { readonly left: readonly string[] }> {
  await using folder = await makeTempFolder();
  const outcome = await runProgram(main, args, { HOME: folder.path, TMPDIR: folder.path, ...env });
  return { ...outcome, left: await readdir(folder.path) };
}

/** A port that somebody else holds. */
async function occupyPort(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      await closed;
    },
  };
}

type Refused = Outcome & { readonly left: readonly string[] };

/** One sentence with these words, no stack trace, and nothing left; what had begun by then may have been told before. */
function expectFailure(outcome: Refused, exitCode: number, words: readonly RegExp[]): void {
  for (const word of words) expect(outcome.stderr).toMatch(word);
  expect(outcome.stderr).toMatch(/^error: /m);
  expect(outcome.stderr).not.toMatch(/^\s+at /m);
  expect(outcome).toMatchObject({ exitCode, left: [] });
}

/** The same before anything has begun. */
function expectRefusal(outcome: Refused, exitCode: number, words: readonly RegExp[]): void {
  expectFailure(outcome, exitCode, words);
  expect(outcome.stderr).toMatch(/^error: /);
  expect(outcome.stdout).toBe('');
}

describe('npm start refuses in one clear sentence, and leaves nothing behind', () => {
  const missing = '/nonexistent/workspace';
  test.each([
    ['an unknown flag', ['--sceanrio', 'spot-loss'], [/--sceanrio/, /--help/]],
    ['a word too many', ['spot-loss'], [/spot-loss/, /--help/]],
    ['a flag without its value', ['--scenario'], [/--scenario/, /--help/]],
    ['an unknown scenario', ['--scenario', 'flood'], [/--scenario flood/, /spot-loss/]],
    ['an unknown loss', ['--scenario', 'spot-loss', '--loss', 'melt'], [/--loss melt/, /kill, freeze, partition/]],
    ['--json without a scenario', ['--json'], [/--json/, /--scenario spot-loss/]],
    ['--loss without a scenario', ['--loss', 'kill'], [/--loss/, /--scenario spot-loss/]],
    [
      'a workspace that is not there',
      ['--workspace', missing],
      [/--workspace \/nonexistent\/workspace/, /ENOENT/, /folder/],
    ],
    ['a workspace that is a file', ['--workspace', import.meta.filename], [/--workspace/, /not a folder/]],
    ['a port that is none', ['--port', '80a'], [/--port 80a/, /65535/]],
    ['a port beyond the last', ['--port', '65536'], [/--port 65536/, /65535/]],
  ])('%s', async (_, args, words) => {
    expectRefusal(await runFresh(DEMO_MAIN, args), 2, words);
  });

  test.each([[[]], [['--scenario', 'spot-loss', '--json']]])('a port that is taken: %j', async (args) => {
    await using taken = await occupyPort();
    const outcome = await runFresh(DEMO_MAIN, [...args, '--port', String(taken.port)]);
    expectFailure(outcome, 1, [new RegExp(`port ${taken.port} .* in use`), /--port 0/]);
    if (args.includes('--json')) expect(outcome.stdout).toBe('');
  });
});

test('npm start refuses a data directory that another demo uses or nobody can write', async () => {
  await using folder = await makeTempFolder();
  await writeFile(join(folder.path, 'file'), '');
  const outcome = await runFresh(DEMO_MAIN, ['--port', '0', '--data-dir', join(folder.path, 'file', 'data')]);
  expectFailure(outcome, 1, [/file\/data/, /--data-dir/]);
});

describe('the control plane refuses before it changes anything', () => {
  test('bad variables, all of them at once', async () => {
    const env = {
      DUMONT_PORT: 'http',
      DUMONT_HEARTBEAT_MS: '1',
      STORAGE_PROVIDER: 'ftp',
      DUMONT_API_TOKEN: 'short',
      DATABASE_URL: 'mysql://localhost/x',
      DUMONT_LOCAL_PROVIDER: 'maybe',
    };
    const words = Object.keys(env).map((name) => new RegExp(`${name}: `));
    const outcome = await runFresh(CONTROL_PLANE_MAIN, [], env);
    expectRefusal(outcome, 2, [...words, /env\.example/]);
    expect(outcome.stderr).not.toContain('short');
  });

  test('a bucket without its variables, all of them named', async () => {
    const outcome = await runFresh(CONTROL_PLANE_MAIN, [], { STORAGE_PROVIDER: 'b2' });
    expectRefusal(outcome, 2, [/B2_ENDPOINT/, /B2_BUCKET/, /B2_KEY_ID/, /B2_APPLICATION_KEY/, /STORAGE_PROVIDER=file/]);
  });

  test('an unknown flag', async () => {
    expectRefusal(await runFresh(CONTROL_PLANE_MAIN, ['--prot', '1']), 2, [/--prot/, /--help/]);
  });

  test('a port that is taken: the data directory is not even made', async () => {
    await using taken = await occupyPort();
    const outcome = await runFresh(CONTROL_PLANE_MAIN, [], { DUMONT_PORT: String(taken.port) });
    expectRefusal(outcome, 1, [new RegExp(`port ${taken.port} .* in use`), /DUMONT_PORT/]);
  });

  test('an address that is not of this computer', async () => {
    const outcome = await runFresh(CONTROL_PLANE_MAIN, [], { DUMONT_HOST: '192.0.2.1', DUMONT_PORT: '0' });
    expectRefusal(outcome, 2, [/192\.0\.2\.1/, /DUMONT_HOST/]);
  });

  test('a data directory that cannot be written', async () => {
    await using folder = await makeTempFolder();
    await writeFile(join(folder.path, 'file'), '');
    const dataDirectory = join(folder.path, 'file', 'data');
    const outcome = await runFresh(CONTROL_PLANE_MAIN, [], { DUMONT_DATA_DIR: dataDirectory, DUMONT_PORT: '0' });
    expectRefusal(outcome, 1, [new RegExp(dataDirectory), /writable/, /DUMONT_DATA_DIR/]);
  });
});

describe('beside a running control plane', () => {
  const resources = new AsyncDisposableStack();
  let site: Site;

  beforeAll(async () => {
    site = resources.use(await Site.make());
    resources.use(await ControlPlaneProcess.start(site));
  });
  afterAll(() => resources.disposeAsync());

  test('a second one on the same data directory is turned away, and the first is not disturbed', async () => {
    const outcome = await runFresh(CONTROL_PLANE_MAIN, [], { DUMONT_DATA_DIR: site.dataDirectory, DUMONT_PORT: '0' });
    expectRefusal(outcome, 1, [/in use by process \d+/, new RegExp(site.dataDirectory), /another directory/]);
    expect(await site.client.call('health')).toMatchObject({ ok: true });
    expect((await site.client.call('listWorkspaces')).items).toEqual([]);
  });

  test('an agent whose token is unknown gives up and says why', async () => {
    const agent = {
      DUMONT_CONTROL_URL: `http://127.0.0.1:${site.port}`,
      DUMONT_ENROL_TOKEN: 'a-token-nobody-gave-out'.padEnd(43, '-'),
      DUMONT_WORKSPACE_DIR: join(site.folder, 'stray', 'workspace'),
      DUMONT_STATE_DIR: join(site.folder, 'stray', 'state'),
    };
    const outcome = await runFresh(AGENT_MAIN, [], agent);
    expect(outcome).toMatchObject({ exitCode: 77, stdout: '', left: [] });
    expect(outcome.stderr).toMatch(/^error: .*does not know the enrolment token/m);
    expect(outcome.stderr).toMatch(/DUMONT_CONTROL_URL/);
    expect(outcome.stderr).not.toContain('a-token-nobody-gave-out');
  });

  test('an agent without its control plane or a token to join it says which variable is missing', async () => {
    const outcome = await runFresh(AGENT_MAIN, []);
    expectRefusal(outcome, 2, [/DUMONT_CONTROL_URL/]);
  });
});
