import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GatewayAddresses } from '@dumont/control-plane/gateway/addresses.ts';
import { createApp } from '@dumont/control-plane/http/app.ts';
import type { ApiServices } from '@dumont/control-plane/http/services.ts';
import { EventFeed } from '@dumont/control-plane/live/event-feed.ts';
import { simulateFailover } from '@dumont/control-plane/operations/simulate-failover.ts';
import { startFailoverTest, startProviderTest } from '@dumont/control-plane/operations/start-test.ts';
import { buildTestReport } from '@dumont/control-plane/operations/test-report.ts';
import { findBranch } from '@dumont/control-plane/store/branches.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { findOperation, insertOperation } from '@dumont/control-plane/store/operations.ts';
import { openDatabase } from '@dumont/control-plane/store/open-database.ts';
import { insertWorkspace } from '@dumont/control-plane/store/workspaces.ts';
import type { ApiClient } from '@dumont/shared/api/client.ts';
import { createApiClient } from '@dumont/shared/api/client.ts';
import type { InstanceView } from '@dumont/shared/api/views.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import { BranchKeeper } from '@dumont/control-plane/workspaces/branch-keeper.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { MemoryProvider } from '../../../world/memory-provider.ts';
import { sampleReport } from './sample-data.ts';

/** A call the API made on the operations port. */
type OperationCall =
  | { readonly kind: 'provision'; readonly name: string }
  | { readonly kind: 'failover'; readonly workspaceId: string; readonly reason: string }
  | { readonly kind: 'release'; readonly instanceId: string; readonly snapshotFirst: boolean }
  | { readonly kind: 'upgrade'; readonly version: string; readonly instanceIds: readonly string[] }
  | { readonly kind: 'loss'; readonly instanceId: string; readonly how: string };

/** The real application on a real socket over a real database; only the operations behind it are recorded, not run. */
export interface ApiWorld extends AsyncDisposable {
  readonly url: string;
  readonly token: string;
  readonly db: Database;
  readonly feed: EventFeed;
  readonly client: ApiClient;
  readonly calls: OperationCall[];
  readonly fleet: Map<InstanceId, { readonly liveness: InstanceView['liveness']; readonly beat: Heartbeat }>;
  readonly services: ApiServices;
  /** Ends the server and every connection, keeps the database. */
  stopServing(): Promise<void>;
}

export async function startApiWorld(
  options: { readonly clock?: Clock; readonly overrides?: Partial<ApiServices>; readonly port?: number } = {},
): Promise<ApiWorld> {
  const directory = await mkdtemp(join(tmpdir(), 'dumont-api-'));
  const db = await openDatabase({ databaseUrl: undefined, dataDirectory: directory });
  const clock = options.clock ?? systemClock;
  const feed = new EventFeed({ db, clock });
  const calls: OperationCall[] = [];
  const fleet: ApiWorld['fleet'] = new Map();
  const token = 'test-token-0123456789abcdef';
  const services = { ...testServices({ db, clock, feed, calls, fleet, token }), ...options.overrides };
  const server = createServer(createApp(services));
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stopServing = async () => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  return {
    url,
    token,
    db,
    feed,
    calls,
    fleet,
    services,
    client: createApiClient({ baseUrl: url, token }),
    stopServing,
    async [Symbol.asyncDispose]() {
      await feed[Symbol.asyncDispose]();
      await stopServing();
      await db[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function testServices(parts: {
  readonly db: Database;
  readonly clock: Clock;
  readonly feed: EventFeed;
  readonly calls: OperationCall[];
  readonly fleet: ApiWorld['fleet'];
  readonly token: string;
}): ApiServices {
  const { db, clock, feed, calls, fleet, token } = parts;
  const log = createLogger('api-test', 'silent');
  const providers = new Map([['memory', new MemoryProvider()]]);
  const removeObject = () => Promise.resolve();
  const keeper = new BranchKeeper({ db, clock, log, removeObject, onChange: () => {} });
  return {
    db,
    clock,
    log,
    version: '0.0.0-test',
    apiToken: token,
    events: feed,
    gateway: new GatewayAddresses({ db, clock, publicUrl: 'http://dumont.test:8766', domain: undefined }),
    fleet: {
      get connectedCount() {
        return fleet.size;
      },
      isConnected: (instanceId) => fleet.has(instanceId),
      liveness: (instanceId) => fleet.get(instanceId)?.liveness ?? null,
      lastBeat: (instanceId) => fleet.get(instanceId)?.beat,
      agent: (instanceId) =>
        fleet.has(instanceId) ? { version: '0.1.0', bootId: 'boot-0001', upgradable: true } : undefined,
    },
    upgrades: {
      newest: () => Promise.resolve('0.2.0'),
      state: () => null,
      order: (instances, { version = '0.2.0' }) => {
        calls.push({ kind: 'upgrade', version, instanceIds: instances.map(({ id }) => id) });
        const agents = instances.map(({ id }) => ({ instanceId: id, outcome: 'ordered', reason: null }) as const);
        return Promise.resolve({ version, agents });
      },
    },
    tests: {
      simulate: (workspaceId, how) =>
        simulateFailover(
          { db, clock, providers, fleet: { isConnected: () => true, lastBeat: () => undefined } },
          workspaceId,
          how,
        ),
      failover: (workspace, body) => startFailoverTest({ db, clock, onChange: () => feed.wake() }, workspace, body),
      provider: (body) => startProviderTest({ db, clock, providers, onChange: () => feed.wake() }, body),
      report: (testId) => buildTestReport(db, testId, clock.nowMs()),
      cancel: () => Promise.resolve(false),
    },
    operations: {
      provision: async (body) => {
        calls.push({ kind: 'provision', name: body.name });
        const workspaceId = newId('workspace');
        await insertWorkspace(db, { id: workspaceId, name: body.name, policy: body.policy, atMs: clock.nowMs() });
        return { operationId: newId('operation'), workspaceId };
      },
      addMachine: async (body) => {
        const ids = { operationId: newId('operation'), workspaceId: newId('workspace'), instanceId: newId('instance') };
        await insertWorkspace(db, {
          id: ids.workspaceId,
          name: body.workspace,
          policy: body.policy,
          atMs: clock.nowMs(),
        });
        return { ...ids, enrolToken: 't'.repeat(43), expiresAtMs: clock.nowMs() + 60_000 };
      },
      failover: async (workspaceId, reason) => {
        calls.push({ kind: 'failover', workspaceId, reason });
        const id = newId('operation');
        const atMs = clock.nowMs();
        await insertOperation(db, { id, kind: 'failover', workspaceId, state: 'searching', data: {}, atMs });
        return id;
      },
      release: (instanceId, { snapshotFirst }) => {
        calls.push({ kind: 'release', instanceId, snapshotFirst });
        return Promise.resolve(newId('operation'));
      },
    },
    onChange: () => {},
    publicUrl: undefined,
    downloads: { folder: '/nowhere', installScript: '/nowhere' },
    takeSnapshot: () => Promise.resolve(null),
    branches: {
      merge: async (branchId) => {
        const branch = must(await findBranch(db, branchId), 'the route has looked');
        const counts = { taken: 1, beside: 0, same: 0, kept: 0, deleted: 0 };
        const paths = [{ path: 'model.pt', outcome: 'taken' as const }];
        return { branch, merge: { counts, bytesWritten: 4_096, paths, snapshotBefore: null, snapshotAfter: null } };
      },
      delete: (branch) => keeper.delete(branch),
    },
    failoverReport: async (failoverId) => {
      const operation = await findOperation(db, failoverId);
      if (operation === undefined) throw new DumontError('NOT_FOUND', `there is no failover ${failoverId}`);
      return sampleReport(failoverId);
    },
    signRequests: () => Promise.reject(new DumontError('UNSUPPORTED', 'nothing is signed here')),
    injectLoss: (instanceId, how) => {
      calls.push({ kind: 'loss', instanceId, how });
      return Promise.resolve();
    },
  };
}
