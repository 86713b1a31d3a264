import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';
import { startApiWorld } from './api-world.ts';

const SCRIPT =
  '#!/bin/sh\nurl=@DUMONT_CONTROL_URL@\nversion=@DUMONT_VERSION@\necho "$url again: @DUMONT_CONTROL_URL@"\n';

/** Releases as a build leaves them, and an installer. */
async function worldWith(folder: string, versions: readonly string[], publicUrl?: string) {
  const downloads = join(folder, 'agent');
  await mkdir(downloads);
  for (const version of versions) await writeRelease(downloads, version);
  const installScript = join(folder, 'install.sh');
  await writeFile(installScript, SCRIPT);
  await writeFile(join(folder, 'secret'), 'not for downloads');
  const world = await startApiWorld({ overrides: { publicUrl, downloads: { folder: downloads, installScript } } });
  return { world, downloads };
}

async function writeRelease(downloads: string, version: string): Promise<void> {
  const content = Buffer.from(`executable ${version}`);
  const file = `dumont-agent-${version}-linux-x64.gz`;
  const sha256 = createHash('sha256').update(content).digest('hex');
  const build = { arch: 'x64', file, compressedBytes: content.length, compressedSha256: sha256, bytes: 1, sha256 };
  await mkdir(join(downloads, version));
  await writeFile(join(downloads, version, file), content);
  await writeFile(join(downloads, version, 'SHA256SUMS'), `${sha256}  ${file}\n`);
  await writeFile(join(downloads, version, 'private.key'), 'not named by the release');
  await writeFile(join(downloads, version, 'release.json'), JSON.stringify({ version, builds: [build] }));
}

/** A request as it is: `fetch` would tidy up the path and forbid the headers. */
function rawGet(url: string, path: string, headers: Record<string, string> = {}) {
  return new Promise<{ readonly status: number; readonly body: string }>((resolve, reject) => {
    const { hostname, port } = new URL(url);
    request({ hostname, port, path, headers }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    })
      .on('error', reject)
      .end();
  });
}

test('the installer is filled in with the newest version and the URL the request came in under', async () => {
  await using folder = await makeTempFolder();
  const { world } = await worldWith(folder.path, ['0.9.0', '0.10.0', '0.10.0-rc.1']);
  await using _ = world;
  const response = await fetch(`${world.url}/install.sh`);
  expect(response.headers.get('content-type')).toBe('text/x-shellscript; charset=utf-8');
  const text = await response.text();
  expect(text).toBe(SCRIPT.replaceAll('@DUMONT_CONTROL_URL@', world.url).replaceAll('@DUMONT_VERSION@', '0.10.0'));
  const etag = response.headers.get('etag') ?? '';
  expect((await rawGet(world.url, '/install.sh', { 'if-none-match': etag })).status).toBe(304);
  const behindTls = { host: 'dumont.example', 'x-forwarded-proto': 'https' };
  expect((await rawGet(world.url, '/install.sh', behindTls)).body).toContain('url=https://dumont.example\n');
});

test('a host name that could mean something to a shell does not get into the script', async () => {
  await using folder = await makeTempFolder();
  const { world } = await worldWith(folder.path, ['1.0.0']);
  await using _ = world;
  const hosts = ['evil"; rm -rf /', 'a$(id)', 'a`id`', "a'b", 'a b', 'a;b', 'user@host', 'a/..', 'a\\b', '-x', 'a:b'];
  for (const host of hosts) {
    const { status, body } = await rawGet(world.url, '/install.sh', { host });
    expect([host, status]).toEqual([host, 400]);
    expect(body).not.toContain('#!/bin/sh');
  }
});

test('a configured URL is used whatever the request says', async () => {
  await using folder = await makeTempFolder();
  const { world } = await worldWith(folder.path, ['1.0.0'], 'https://dumont.example/control/');
  await using _ = world;
  const { body } = await rawGet(world.url, '/install.sh', { host: 'evil.example' });
  expect(body).toContain('url=https://dumont.example/control\n');
});

test('files of a release come whole, in pieces and from caches', async () => {
  await using folder = await makeTempFolder();
  const { world } = await worldWith(folder.path, ['1.0.0', '1.1.0']);
  await using _ = world;
  expect(await (await fetch(`${world.url}/downloads/release.json`)).json()).toMatchObject({ version: '1.1.0' });
  const url = `${world.url}/downloads/1.0.0/dumont-agent-1.0.0-linux-x64.gz`;
  const whole = await fetch(url);
  expect(await whole.text()).toBe('executable 1.0.0');
  expect(whole.headers.get('cache-control')).toMatch(/max-age=31536000, immutable/);
  const etag = whole.headers.get('etag') ?? '';
  expect(etag).toMatch(/^"[0-9a-f]{64}"$/);
  const rest = await fetch(url, { headers: { range: 'bytes=11-', 'if-range': etag } });
  expect([rest.status, await rest.text()]).toEqual([206, '1.0.0']);
  expect((await rawGet(world.url, new URL(url).pathname, { 'if-none-match': etag })).status).toBe(304);
  expect(await (await fetch(`${world.url}/downloads/1.0.0/SHA256SUMS`)).text()).toContain('linux-x64.gz');
  expect(await (await fetch(`${world.url}/downloads/1.0.0/release.json`)).json()).toMatchObject({ version: '1.0.0' });
});

test('only what a release names is served, however it is asked for', async () => {
  await using folder = await makeTempFolder();
  const { world } = await worldWith(folder.path, ['1.0.0']);
  await using _ = world;
  for (const path of [
    '/downloads/1.0.0/private.key',
    '/downloads/../secret',
    '/downloads/1.0.0/../../../secret',
    '/downloads/1.0.0/..%2f..%2f..%2fsecret',
    '/downloads/%2e%2e/secret',
    '/downloads/1.0.0/%00',
    '/downloads/2.0.0/release.json',
    '/downloads/1.0.0',
  ]) {
    const { status, body } = await rawGet(world.url, path);
    expect(status, path).toBe(404);
    expect(body).not.toContain('not for downloads');
    expect(body).not.toContain('not named by');
  }
});

test('while nothing is built, and when a build is damaged, it says how to make one', async () => {
  await using folder = await makeTempFolder();
  const { world, downloads } = await worldWith(folder.path, []);
  await using _ = world;
  for (const path of ['/install.sh', '/downloads/release.json', '/downloads/1.0.0/SHA256SUMS']) {
    const { status, body } = await rawGet(world.url, path);
    expect(status, path).toBe(503);
    expect(body).toContain('npm run build:agent');
  }
  await mkdir(join(downloads, '1.0.0'));
  await writeFile(join(downloads, '1.0.0', 'release.json'), '{"version":"1.0.0"');
  expect((await rawGet(world.url, '/downloads/release.json')).status).toBe(503);
});

test('an address that fails too often waits, and is told so; others do not', async () => {
  await using world = await startApiWorld();
  const body = { enrolToken: 'x'.repeat(43), credential: 'c'.repeat(43), hostname: 'h', agentVersion: '0' };
  const attempt = () => world.client.call('enrol', { body });
  for (let count = 0; count < 30; count += 1) await expect(attempt()).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  await expect(attempt()).rejects.toMatchObject({ code: 'LIMIT', retryable: true });
});
