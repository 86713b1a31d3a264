import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { ControlPath, parseControlUrl, publicUrl } from '@dumont/agent/doctor/control-path.ts';
import { LINK_CHECKS } from '@dumont/agent/doctor/link-checks.ts';
import { runChecks } from '@dumont/agent/doctor/run-checks.ts';
import { readSituation } from '@dumont/agent/doctor/situation.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const hasOpenssl = (() => {
  try {
    execFileSync('openssl', ['version']);
    return true;
  } catch {
    return false;
  }
})();

async function listening(server: Server): Promise<AsyncDisposable & { readonly port: number }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.close();
      await once(server, 'close');
    },
  };
}

/** What the checks of the link say about an address, by their ids. */
async function examine(controlUrl: string): Promise<Readonly<Record<string, string>>> {
  const environment = { DUMONT_CONTROL_URL: controlUrl };
  const situation = await readSituation({ environment, storeUrl: null, clock: systemClock });
  const results = await runChecks(LINK_CHECKS, situation, new AbortController().signal);
  return Object.fromEntries(results.map(({ id, status, detail }) => [id, `${status}: ${detail}`]));
}

/** A control plane's health, by a clock that is off. */
function healthy(clockOffMs = 0): RequestListener {
  return (request, response) => {
    response.setHeader('date', new Date(systemClock.nowMs() + clockOffMs).toUTCString());
    response.setHeader('connection', 'close');
    response.statusCode = request.url === '/base/api/v1/health' ? 200 : 404;
    response.end('{"ok":true,"version":"1.2.3"}');
  };
}

test('a control plane that is well is reached leg by leg, up to the socket', async () => {
  const server = createServer(healthy());
  const sockets = new WebSocketServer({ server, path: '/base/agent/v1' });
  await using control = await listening(server);
  const said = await examine(`ws://127.0.0.1:${control.port}/base/`);
  expect(said).toMatchObject({
    'control-url': `ok: http://127.0.0.1:${control.port}/base/`,
    'control-tls': 'skip: the address has no TLS',
    'control-http': expect.stringContaining('ok: control plane 1.2.3'),
    'control-socket': 'ok: opens',
    clock: 'ok: agrees with the control plane to a second',
  });
  sockets.close();
});

test('something else that listens there is no control plane, and a clock that is off is told', async () => {
  await using other = await listening(createServer(healthy(-3_600_000)));
  expect(await examine(`http://127.0.0.1:${other.port}`)).toMatchObject({
    'control-tcp': expect.stringContaining('ok'),
    'control-http': 'fail: it answers HTTP 404',
    'control-socket': expect.stringContaining('fail'),
    clock: expect.stringMatching(/^fail: 1 h 00 min ahead of the control plane/),
  });
});

test('the first leg that fails is named, what follows is not tried', async () => {
  const closed = await listening(createServer());
  await closed[Symbol.asyncDispose]();
  expect(await examine(`http://127.0.0.1:${closed.port}`)).toMatchObject({
    'control-tcp': 'fail: no TCP connection: ECONNREFUSED',
    'control-tls': 'skip: not tried: TCP comes first',
    'control-socket': 'skip: not tried: TCP comes first',
  });
  expect((await examine('ftp://x'))['control-url']).toMatch(/^fail/);
});

test.runIf(hasOpenssl)('a certificate that nobody vouches for ends the way, and says why', async () => {
  await using folder = await makeTempFolder();
  const [key, cert] = [join(folder.path, 'key'), join(folder.path, 'cert')];
  const words = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', '/CN=localhost'];
  execFileSync('openssl', [...words, '-keyout', key, '-out', cert], { stdio: 'ignore' });
  await using control = await listening(
    createTlsServer({ key: await readFile(key), cert: await readFile(cert) }, healthy()),
  );
  expect(await examine(`https://localhost:${control.port}/base`)).toMatchObject({
    'control-tls': 'fail: it is not trusted: DEPTH_ZERO_SELF_SIGNED_CERT',
    'control-http': 'skip: not tried: TLS comes first',
  });
});

test('an address is told without the user and password in it, and they go nowhere', async () => {
  const address = must(parseControlUrl('wss://me:hush@example.org/base'), 'it is an address');
  expect(publicUrl(address)).toBe('https://example.org/base');
  expect(address).toMatchObject({ isTls: true, host: 'example.org', port: 443 });
  const path = new ControlPath('nonsense', systemClock);
  expect([path.address, path.isGiven, (await path.dial()).kind]).toEqual([null, true, 'blocked']);
});
