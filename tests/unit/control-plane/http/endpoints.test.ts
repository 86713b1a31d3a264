import { afterAll, beforeAll, expect, test } from 'vitest';
import { API_PREFIX, MAX_BODY_BYTES } from '@dumont/shared/api/endpoint.ts';
import type { EndpointName } from '@dumont/shared/api/endpoints.ts';
import { ENDPOINTS } from '@dumont/shared/api/endpoints.ts';
import type { Problem } from '@dumont/shared/api/problem.ts';
import { problemSchema } from '@dumont/shared/api/problem.ts';
import { findWorkspace } from '@dumont/control-plane/store/workspaces.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import type { ApiWorld } from './api-world.ts';
import { startApiWorld } from './api-world.ts';
import type { SampleData } from './sample-data.ts';
import { fillSampleData, SAMPLE_ENROL_TOKEN } from './sample-data.ts';

let world: ApiWorld;
let data: SampleData;
let testId: string;

beforeAll(async () => {
  world = await startApiWorld();
  data = await fillSampleData(world.db, systemClock.nowMs());
  testId = await world.services.tests.failover(must(await findWorkspace(world.db, 'demo'), 'it is there'), {});
  await world.db.query('update operations set finished_at = 1 where id = $1', [testId]);
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

interface GoodRequest {
  readonly query?: string;
  readonly body?: unknown;
}

/** What endpoints need to accept a request; those not named need nothing. */
const GOOD_REQUESTS: Partial<Record<EndpointName, GoodRequest>> = {
  provision: { body: { name: 'fresh' } },
  addMachine: { body: { workspace: 'mine' } },
  enrol: {
    body: { enrolToken: SAMPLE_ENROL_TOKEN, credential: 'c'.repeat(43), hostname: 'h', agentVersion: '0' },
  },
  injectLoss: { body: { kind: 'kill' } },
  listSnapshots: { query: 'workspace=demo' },
  upgradeAgents: { body: { workspace: 'demo' } },
  takeSnapshot: { body: { workspace: 'demo' } },
  triggerFailover: { body: { workspace: 'demo' } },
  forgetMachineHistory: { body: { machine: 'm-4711' } },
  simulateFailover: { body: { workspace: 'demo' } },
  testFailover: { body: { workspace: 'demo' } },
};

function goodRequest(name: EndpointName): GoodRequest {
  return GOOD_REQUESTS[name] ?? {};
}

function urlOf(name: EndpointName, query?: string): string {
  const path = ENDPOINTS[name].path
    .replace(':workspace', 'demo')
    .replace(':instanceId', data.primaryId)
    .replace(':failoverId', data.failoverId)
    .replace(':operationId', data.failoverId)
    .replace(':testId', testId)
    .replace(':branchId', data.branchId);
  return `${world.url}${API_PREFIX}${path}${query === undefined ? '' : `?${query}`}`;
}

interface SendOptions {
  readonly query?: string | undefined;
  readonly body?: unknown;
  readonly token?: string | null;
}

function send(name: EndpointName, { query, body, token = world.token }: SendOptions = {}): Promise<Response> {
  const headers = {
    ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  };
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return fetch(urlOf(name, query), { method: ENDPOINTS[name].method, headers, body: text ?? null });
}

async function expectProblem(response: Response, expected: Partial<Problem>): Promise<Problem> {
  expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
  const problem = problemSchema.parse(await response.json());
  expect(problem).toMatchObject({ ...expected, status: response.status });
  return problem;
}

const NAMES = Object.keys(ENDPOINTS) as EndpointName[];

test.each(NAMES)('%s answers a good request with its status and its schema', async (name) => {
  const response = await send(name, goodRequest(name));
  const answer: unknown = await response.json();
  expect(response.status, JSON.stringify(answer)).toBe(ENDPOINTS[name].successStatus);
  expect(ENDPOINTS[name].response.safeParse(answer).error).toBeUndefined();
  expect(response.headers.get('x-request-id')).toMatch(/^[\w-]{36}$/);
  expect(response.headers.get('x-content-type-options')).toBe('nosniff');
  expect(response.headers.get('cache-control')).toBe('no-store');
  expect(response.headers.get('access-control-allow-origin')).toBeNull();
});

test.each(NAMES.filter((name) => ENDPOINTS[name].auth))('%s refuses a missing and a wrong token', async (name) => {
  const missing = await send(name, { ...goodRequest(name), token: null });
  expect(missing.headers.get('www-authenticate')).toContain('Bearer');
  const problem = await expectProblem(missing, { status: 401, code: 'UNAUTHORIZED' });
  expect(problem.hint).toContain('api-token');
  for (const token of ['wrong', `${world.token}x`, world.token.slice(1)]) {
    await expectProblem(await send(name, { ...goodRequest(name), token }), { status: 401, code: 'UNAUTHORIZED' });
  }
});

test.each(NAMES)('%s refuses an unknown query field and names it', async (name) => {
  const good = goodRequest(name);
  const query = [good.query, 'colour=red'].filter((part) => part !== undefined).join('&');
  const problem = await expectProblem(await send(name, { ...good, query }), { status: 400, code: 'USAGE' });
  expect(problem.detail).toContain('colour');
});

test.each(NAMES.filter((name) => ENDPOINTS[name].method === 'POST'))(
  '%s refuses an unknown body field',
  async (name) => {
    const body = { ...(goodRequest(name).body as object), colour: 'red' };
    const problem = await expectProblem(await send(name, { body }), { status: 400, code: 'USAGE' });
    expect(problem.detail).toContain('colour');
  },
);

test.each(NAMES.filter((name) => ENDPOINTS[name].path.includes(':')))(
  '%s answers 404 for a name nobody has',
  async (name) => {
    const { body } = goodRequest(name);
    const url = urlOf(name).replace(/demo|(?:in|op|br)_\w+/, 'nobody');
    const response = await fetch(url, {
      method: ENDPOINTS[name].method,
      headers: { authorization: `Bearer ${world.token}`, 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const problem = await expectProblem(response, { status: 404, code: 'NOT_FOUND' });
    expect(problem.detail).toContain('"nobody"');
    expect(problem.hint).toBeDefined();
  },
);

test.each([
  ['limit=0', 'limit'],
  ['limit=501', 'limit'],
  ['limit=many', 'limit'],
  ['limit=1&limit=2', 'limit'],
  ['all=perhaps', 'all'],
  ['cursor=nonsense', 'cursor'],
  [`cursor=${Buffer.from('["workspaces","demo"]').toString('base64url')}`, 'cursor'],
  [`cursor=${Buffer.from('["instances","nobody"]').toString('base64url')}`, 'cursor'],
])('listInstances refuses ?%s and names the field', async (query, field) => {
  await expectProblem(await send('listInstances', { query }), { status: 400, code: 'USAGE', field });
});

test.each([
  ['provision', { name: '-bad' }, 'name'],
  ['provision', { name: 'ok', policy: { raceWidth: 9 } }, 'policy.raceWidth'],
  ['provision', {}, 'name'],
  ['provision', '', 'name'],
  ['provision', [], '(message)'],
  ['injectLoss', { kind: 'melt' }, 'kind'],
  ['triggerFailover', { workspace: '' }, 'workspace'],
  ['takeSnapshot', { workspace: 7 }, 'workspace'],
] as const)('%s refuses the body %j and names the field', async (name, body, field) => {
  await expectProblem(await send(name, { body }), { status: 400, code: 'USAGE', field });
});

test('a body that is not JSON is refused at the line and column of the fault', async () => {
  const problem = await expectProblem(await send('provision', { body: '{\n  "name": "x",\n}' }), { status: 400 });
  expect(problem.detail).toContain('line 3, column 1');
});

test('a body of another type, too large or with a NUL is refused', async () => {
  const headers = { authorization: `Bearer ${world.token}`, 'content-type': 'text/plain' };
  const plain = await fetch(urlOf('provision'), { method: 'POST', headers, body: 'name=x' });
  await expectProblem(plain, { status: 400, field: 'Content-Type' });
  const large = await send('provision', { body: { name: 'x'.repeat(MAX_BODY_BYTES) } });
  await expectProblem(large, { status: 413, code: 'LIMIT' });
  await expectProblem(await send('triggerFailover', { body: { workspace: 'a\0b' } }), { status: 400 });
  await expectProblem(await fetch(`${world.url}${API_PREFIX}/workspaces/a%00b`), { status: 400 });
  await expectProblem(await fetch(`${world.url}${API_PREFIX}/workspaces/%zz`), { status: 400 });
});

test('an unknown path is 404 and a wrong method 405 with the methods that work', async () => {
  await expectProblem(await fetch(`${world.url}/nowhere`), { status: 404, code: 'NOT_FOUND' });
  await expectProblem(await fetch(`${world.url}${API_PREFIX}/nowhere`), { status: 404, code: 'NOT_FOUND' });
  const wrong = await fetch(`${world.url}${API_PREFIX}/snapshots`, { method: 'DELETE' });
  expect(wrong.headers.get('allow')).toBe('GET, POST, HEAD');
  await expectProblem(wrong, { status: 405 });
  const stream = await fetch(`${world.url}${API_PREFIX}/events`, { method: 'POST' });
  await expectProblem(stream, { status: 405 });
});

test("a failure of the program is opaque, carries the caller's request id and hides its message", async () => {
  const overrides = { takeSnapshot: () => Promise.reject(new Error('secret detail')) };
  await using broken = await startApiWorld({ overrides });
  await fillSampleData(broken.db, systemClock.nowMs());
  const response = await fetch(`${broken.url}${API_PREFIX}/snapshots`, {
    method: 'POST',
    headers: { authorization: `Bearer ${broken.token}`, 'content-type': 'application/json', 'x-request-id': 'my-id.1' },
    body: '{"workspace":"demo"}',
  });
  expect(response.headers.get('x-request-id')).toBe('my-id.1');
  const problem = await expectProblem(response, { status: 500, code: 'INTERNAL' });
  expect(problem.detail).toContain('my-id.1');
  expect(JSON.stringify(problem)).not.toContain('secret');
});

test('pages follow each other without a gap or a repeat', async () => {
  const seen: string[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < 10; page += 1) {
    const answer = await world.client.call('listSnapshots', { query: { workspace: 'demo', limit: 1, cursor } });
    seen.push(...answer.items.map((item) => item.snapshotId));
    if (answer.next === null) break;
    cursor = answer.next;
  }
  expect(seen).toEqual(data.snapshotIds.toReversed());
});

test('an instance shows its standing, its live facts and what it has cost', async () => {
  const beat = { kind: 'heartbeat', seq: 1, epoch: 0, monotonicMs: 1, mainLagMs: 0, gpuUtilPct: 91 } as const;
  world.fleet.set(data.primaryId, { liveness: 'alive', beat: { ...beat, unsavedMs: 320, workload: 'running' } });
  const view = await world.client.call('getInstance', { params: { instanceId: data.primaryId } });
  expect(view).toMatchObject({
    workspaceName: 'demo',
    standing: 'primary',
    state: 'ready',
    connected: true,
    liveness: 'alive',
    workload: 'running',
    unsavedMs: 320,
    providerRef: 'local-7',
  });
  expect(view.costMicroUsd).toBeGreaterThanOrEqual(410_000);
  expect(view.costMicroUsd).toBeLessThan(420_000);
  const { items } = await world.client.call('listInstances', { query: { workspace: 'demo' } });
  expect(items.map((item) => item.instanceId)).toEqual([data.primaryId]);
  const all = await world.client.call('listInstances', { query: { all: 'true' } });
  expect(all.items.map((item) => item.instanceId)).toContain(data.goneId);
});

test('a workspace shows when its head was committed and who moves it', async () => {
  const view = await world.client.call('getWorkspace', { params: { workspace: data.workspaceId } });
  expect(view).toMatchObject({ name: 'demo', headSnapshotId: data.snapshotIds[2], primaryInstanceId: data.primaryId });
  expect(view.headCommittedAtMs).toBeGreaterThan(0);
});

test('agents show what they run, and an upgrade reaches those it names', async () => {
  world.calls.length = 0;
  const { items, newestVersion } = await world.client.call('listAgents', { query: { workspace: 'demo' } });
  expect(newestVersion).toBe('0.2.0');
  expect(items.map(({ instanceId, workspaceName }) => [instanceId, workspaceName])).toEqual([[data.primaryId, 'demo']]);
  await world.client.call('upgradeAgents', { body: { instanceId: data.primaryId, version: '0.3.0' } });
  await world.client.call('upgradeAgents', { body: { workspace: 'demo' } });
  expect(world.calls).toEqual([
    { kind: 'upgrade', version: '0.3.0', instanceIds: [data.primaryId] },
    { kind: 'upgrade', version: '0.2.0', instanceIds: [data.primaryId] },
  ]);
  for (const body of [{}, { workspace: 'demo', all: true }] as const) {
    await expect(world.client.call('upgradeAgents', { body })).rejects.toMatchObject({ code: 'USAGE' });
  }
});

test('commands reach the operations with what the caller asked for', async () => {
  world.calls.length = 0;
  const params = { instanceId: data.primaryId };
  await world.client.call('destroyInstance', { params, query: { snapshot: 'false' } });
  await world.client.call('injectLoss', { params, body: { kind: 'freeze' } });
  expect(world.calls).toEqual([
    { kind: 'release', instanceId: data.primaryId, snapshotFirst: false },
    { kind: 'loss', instanceId: data.primaryId, how: 'freeze' },
  ]);
});
