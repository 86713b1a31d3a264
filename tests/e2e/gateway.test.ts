import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { must } from '@dumont/shared/util/assert.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { GATEWAY_WORKLOAD } from '../world/gateway-workload.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

/** What a user has: addresses and a token, nothing of the machines. */
interface User {
  readonly port: number;
  readonly http: string;
  readonly token: string;
}

let site: Site;
let controlPlane: ControlPlaneProcess;
let workspace: ProtectedWorkspace;
let user: User;

beforeAll(async () => {
  site = await Site.make();
  controlPlane = await ControlPlaneProcess.start(site);
  workspace = await ProtectedWorkspace.provision(site, 'served', {
    ports: { http: 8080 },
    files: { 'serve.mjs': GATEWAY_WORKLOAD },
    workload: { command: 'node serve.mjs' },
  });
  const { gateway } = await workspace.view();
  const { token } = await site.client.call('createGatewayToken', { params: { workspace: 'served' }, body: {} });
  user = { port: must(gateway.ssh, 'an SSH address').port, http: must(gateway.http, 'an HTTP address'), token };
}, 90_000);

afterAll(async () => {
  await controlPlane[Symbol.asyncDispose]();
  await site[Symbol.asyncDispose]();
}, 60_000);

test('a failover keeps both addresses, ends what is open in good order, and is answered from the new machine', async () => {
  const before = await workspace.primary();
  const tcp = await TcpClient.open(user.port);
  expect(await tcp.line()).toBe(`hello from ${before.providerRef}`);
  const socket = new WebSocket(`${user.http.replace('http', 'ws')}socket`, { headers: withToken() });
  const [greeting] = (await once(socket, 'message')) as [Buffer];
  expect(greeting.toString()).toBe(before.providerRef);
  const closed = once(socket, 'close') as Promise<[number, Buffer]>;
  const slow = fetch(`${user.http}slow`, { headers: withToken() });
  const stream = expect(
    fetch(`${user.http}stream`, { headers: withToken() }).then((response) => response.text()),
  ).rejects.toThrow();
  const events = await fetch(`${user.http}events`, { headers: withToken() });
  const eventText = events.text();
  expect((await ask()).machine).toBe(before.providerRef);

  await site.client.call('injectLoss', { params: { instanceId: before.instanceId }, body: { kind: 'partition' } });
  const [code, reason] = await closed;
  expect([code, reason.toString()]).toEqual([1012, 'service restart']);
  expect(await tcp.rest()).toBe('');
  const interrupted = await slow;
  expect(interrupted.status).toBe(503);
  expect(interrupted.headers.get('retry-after')).toBe('1');
  await stream;
  expect(await eventText).toBe(`data: ${before.providerRef}\n\n`);

  // Held until there is a machine.
  const held = await TcpClient.open(user.port);
  const line = await held.line();
  const report = await workspace.failoverOver();
  const after = await workspace.primary();
  expect(after.instanceId).not.toBe(before.instanceId);
  expect(line).toBe(`hello from ${after.providerRef}`);
  held.close();
  expect((await ask()).machine).toBe(after.providerRef);
  expect((await workspace.view()).gateway.ssh?.port).toBe(user.port);

  const gatewayMs = must(
    (await site.client.call('getFailoverReport', { params: { failoverId: report.failoverId } })).gatewayMs,
    'the gateway was answered',
  );
  process.stdout.write(`gateway answered from the new machine ${gatewayMs} ms after the commit\n`);
  expect(gatewayMs).toBeLessThan(2_000);
  const moved = (await workspace.events()).filter(({ type }) => type === 'gateway.moved');
  expect(moved.at(-1)?.data).toMatchObject({ from: before.instanceId, to: after.instanceId });
  expect(Number(moved.at(-1)?.data['endedConnections'])).toBeGreaterThanOrEqual(5);
}, 90_000);

test('a restart of the control plane keeps addresses and tokens', async () => {
  expect(await controlPlane.stop()).toBe(0);
  controlPlane = await ControlPlaneProcess.start(site);
  const tcp = await TcpClient.open(user.port);
  expect(await tcp.line()).toContain('hello from');
  tcp.close();
  expect((await ask()).machine).toBe((await workspace.primary()).providerRef);
}, 90_000);

test('the workload sees the request as it was sent, with the facts of the hop and without our secrets', async () => {
  const seen = await ask('a%20b/../..%2f'.replace('/../..%2f', '?q=%2F&q=2'), {
    cookie: `dumont-gateway=${user.token}; theme=dark`,
    authorization: 'Bearer token-of-the-tests-0123456789',
    connection: 'close, x-hop',
    'x-hop': 'gone',
    'x-forwarded-proto': 'https',
    'x-mine': 'kept',
  });
  expect(seen.url).toBe('/a%20b?q=%2F&q=2');
  expect(seen.headers).toMatchObject({
    cookie: 'theme=dark',
    'x-mine': 'kept',
    'x-forwarded-proto': 'http',
    'x-forwarded-prefix': '/w/served',
    'x-forwarded-for': '127.0.0.1',
  });
  expect(Object.keys(seen.headers)).not.toContain('authorization');
  expect(Object.keys(seen.headers)).not.toContain('x-hop');
  expect(Object.keys(seen.headers)).not.toContain('x-dumont-gateway-token');
});

test('an upload of 64 MiB in chunks arrives whole', async () => {
  const chunk = new Uint8Array(1024 * 1024).fill(7);
  async function* chunks() {
    for (let count = 0; count < 64; count += 1) yield chunk;
  }
  const response = await fetch(`${user.http}upload`, {
    method: 'POST',
    headers: withToken(),
    body: ReadableStream.from(chunks()),
    duplex: 'half',
  });
  expect(((await response.json()) as Seen).bytes).toBe(64 * 1024 * 1024);
});

test('without a token nobody comes in, and a link leaves its token as a cookie', async () => {
  expect((await fetch(user.http)).status).toBe(401);
  expect((await fetch(user.http.replace('served', 'unknown'))).status).toBe(401);
  expect((await fetch(user.http, { headers: { 'x-dumont-gateway-token': `${user.token}x` } })).status).toBe(401);
  const link = await fetch(`${user.http}page?dumont-token=${user.token}&x=1`, { redirect: 'manual' });
  expect([link.status, link.headers.get('location')]).toEqual([307, '/w/served/page?x=1']);
  const cookie = must(link.headers.get('set-cookie'), 'a cookie');
  expect(cookie).toMatch(/; Path=\/w\/served\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/);
  const page = await fetch(`${user.http}page`, { headers: { cookie: cookie.split(';')[0] ?? '' } });
  expect(page.status).toBe(200);
  expect(page.headers.getSetCookie()).toEqual(['mine=1; Path=/w/served/sub']);
  const foreign = new WebSocket(`${user.http.replace('http', 'ws')}s`, {
    headers: { cookie: cookie.split(';')[0] ?? '', origin: 'https://evil.example' },
  });
  const [error] = (await once(foreign, 'error')) as [Error];
  expect(error.message).toContain('401');
});

test('a revocation makes earlier tokens worthless', async () => {
  const body = { revoke: true };
  const { token } = await site.client.call('createGatewayToken', { params: { workspace: 'served' }, body });
  await eventually(
    'the old token is refused',
    async () => (await fetch(user.http, { headers: withToken() })).status === 401,
  );
  user = { ...user, token };
  expect((await fetch(user.http, { headers: withToken() })).status).toBe(200);
});

test('no path through the gateway leads to the API, nor back', async () => {
  for (const path of [
    '/w/served/../../api/v1/health',
    '/w/served/%2e%2e/%2e%2e/api/v1/health',
    '/w/served/..%2f..%2fapi/v1/health',
    '/w/../api/v1/health',
    '/w//api/v1/health',
    '/w/served/%00',
  ]) {
    const answer = await rawRequest(site.port, path, user.token);
    expect(answer, path).toMatch(/^HTTP\/1\.1 400 /);
  }
  expect(await rawRequest(site.port, '/api/../w/served/', user.token)).toMatch(/^HTTP\/1\.1 404 /);
  expect(await rawRequest(site.port, '/w/served/api/v1/health', user.token)).toContain('"url":"/api/v1/health"');
});

interface Seen {
  readonly machine: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes: number;
}

function withToken(): Record<string, string> {
  return { 'x-dumont-gateway-token': user.token };
}

async function ask(path = '', headers: Readonly<Record<string, string>> = {}): Promise<Seen> {
  // Not by fetch, which forbids some of the headers a hostile user sends.
  const lines = Object.entries({ connection: 'close', ...withToken(), ...headers }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  const text = await exchange(
    site.port,
    `GET /w/served/${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${lines.join('\r\n')}\r\n\r\n`,
  );
  return JSON.parse(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1)) as Seen;
}

function rawRequest(port: number, path: string, token: string): Promise<string> {
  return exchange(
    port,
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX-Dumont-Gateway-Token: ${token}\r\n\r\n`,
  );
}

async function exchange(port: number, request: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.write(request);
  let text = '';
  for await (const bytes of socket) text += String(bytes);
  return text;
}

class TcpClient {
  readonly #socket: Socket;
  #text = '';
  readonly #ended: Promise<unknown>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
    this.#ended = once(socket, 'end');
  }

  static async open(port: number): Promise<TcpClient> {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    return new TcpClient(socket);
  }

  async line(): Promise<string> {
    await eventually('a line', () => this.#text.includes('\n'), 30_000);
    const [line = '', ...rest] = this.#text.split('\n');
    this.#text = rest.join('\n');
    return line;
  }

  /** What came until the server ended the connection in good order. */
  async rest(): Promise<string> {
    await this.#ended;
    return this.#text;
  }

  close(): void {
    this.#socket.destroy();
  }
}
