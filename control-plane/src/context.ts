import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import type { LossKind } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import type { ControlConfig, ControlSecrets } from './config.ts';
import { MachineCorroborator } from './detect/corroborate.ts';
import { HeartbeatMonitor } from './detect/heartbeat-monitor.ts';
import { MachineLocator } from './detect/machine-locator.ts';
import { createApp } from './http/app.ts';
import { listen } from './http/listen.ts';
import { AgentHub } from './hub/agent-hub.ts';
import { Fleet } from './hub/fleet.ts';
import { EventFeed } from './live/event-feed.ts';
import { ensureApiToken } from './node/api-token.ts';
import { failoverKind } from './operations/failover.ts';
import { buildFailoverReport } from './operations/failover-report.ts';
import { Guardian } from './operations/guardian.ts';
import { anyKind } from './operations/operation-kind.ts';
import type { OperationLimits, OperationParts } from './operations/operation-parts.ts';
import { provisionKind } from './operations/provision.ts';
import { releaseKind } from './operations/release.ts';
import { OperationRunner } from './operations/runner.ts';
import { startProvision, startRelease, triggerFailover } from './operations/start.ts';
import { takeSnapshot } from './operations/take-snapshot.ts';
import { Wardship } from './operations/wardship.ts';
import { LocalFaults } from './providers/local/local-faults.ts';
import { LocalProvider } from './providers/local/local-provider.ts';
import { LOCAL_PROVIDER_NAME } from './providers/local/market.ts';
import type { ProviderRegistry } from './providers/provider.ts';
import type { RenterParts } from './provisioning/ledger-renter.ts';
import { LedgerRenter } from './provisioning/ledger-renter.ts';
import { STRATEGIES } from './provisioning/strategies.ts';
import { Sweeper } from './provisioning/sweeper.ts';
import type { Database } from './store/database.ts';
import { findInstance } from './store/instances.ts';
import { openDatabase } from './store/open-database.ts';
import { ensureSetting } from './store/settings.ts';
import { LoopLag } from './telemetry/loop-lag.ts';
import { VERSION } from './version.ts';
import { DatabaseAgentDirectory } from './workspaces/agent-directory.ts';

export interface ControlPlaneOptions {
  readonly config: ControlConfig;
  readonly secrets: ControlSecrets;
  readonly log: Logger;
  /** Program and arguments that a local machine runs as its agent. */
  readonly agentCommand: readonly string[];
  /** Replaces single parts; for tests. */
  readonly overrides?: {
    readonly clock?: Clock;
    readonly random?: Random;
    readonly providers?: ProviderRegistry;
    readonly limits?: Partial<OperationLimits>;
  };
}

/** A running control plane. Disposing it stops everything in order; machines and their workloads live on. */
export interface ControlPlane extends AsyncDisposable {
  /** Base URL of the API on this computer. */
  readonly url: string;
  readonly apiToken: string;
  readonly database: 'postgres' | 'pglite';
}

/**
 * The composition root: builds every part in order, starts them, and disposes them in reverse. The port is taken before
 * any data is touched.
 * @throws {DumontError} when the port, the database or the data directory cannot be used
 */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { config, secrets, log, overrides } = options;
  const clock = overrides?.clock ?? systemClock;
  const random = overrides?.random ?? systemRandom;
  await using stack = new AsyncDisposableStack();

  const listener = stack.use(await listen(config));
  const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${listener.port}`;
  await prepareStorage(secrets.storage);
  const apiToken = secrets.apiToken ?? (await ensureApiToken(config.dataDirectory));
  const db = stack.use(await openDatabase({ databaseUrl: secrets.databaseUrl, dataDirectory: config.dataDirectory }));
  const events = new EventFeed({ db, clock });
  const onChange = () => events.wake();
  const changed = new Bell();
  const labelPrefix = `dumont-${await ensureSetting(db, 'installation-id', () => randomUUID().slice(0, 8))}-`;
  const providers = overrides?.providers ?? localProviders(options, clock, random);

  const faults = new LocalFaults({ root: config.local.directory, clock });
  const settings = { heartbeatIntervalMs: config.heartbeatIntervalMs, storage: secrets.storage };
  const fleet = new Fleet();
  const directory = new DatabaseAgentDirectory({ db, clock, settings, storageName: config.storageName, onChange });
  const hub = stack.use(new AgentHub({ directory, listener: fleet, clock, log }));
  const loopLag = stack.use(new LoopLag(clock));
  const locator = new MachineLocator({ db, providers });
  const monitor = stack.use(
    new HeartbeatMonitor({
      clock,
      corroborator: new MachineCorroborator({ locate: (id, how) => locator.locate(id, how), clock, log }),
      onVerdict: (verdict) => guardian.onVerdict(verdict),
      log,
      loopLagMs: () => loopLag.lagMs,
    }),
  );
  fleet.connect({ hub, monitor });

  const wardship = new Wardship({ db, hub, monitor, locator, settings, graceMs: config.startGraceMs, log });
  const sweeper = new Sweeper({
    db,
    clock,
    log,
    providers,
    labelPrefix,
    ...SWEEP_PERIODS,
    onChange,
    onGone: (instanceId) => {
      hub.close(instanceId, CLOSE_CODES.released, 'the machine was given back');
      changed.ring();
    },
  });
  const renterParts: RenterParts = {
    db,
    clock,
    providers,
    presence: hub,
    labelPrefix,
    agentEnvironment: agentEnvironment(config, secrets, config.publicUrl ?? url),
    onChange,
    onRelease: () => sweeper.nudge(),
  };
  const limits = { ...OPERATION_LIMITS, bootDeadlineMs: config.bootDeadlineMs, ...overrides?.limits };
  const parts: OperationParts = {
    ...{ db, clock, random, log, hub, providers, wardship, limits, changed, onChange },
    strategies: STRATEGIES,
    renterFor: (owner) => new LedgerRenter(renterParts, owner),
  };
  const kinds = [anyKind(failoverKind(parts)), anyKind(provisionKind(parts)), anyKind(releaseKind(parts))];
  const owner = newId('operation');
  const runner = stack.use(new OperationRunner({ db, clock, random, log, owner, kinds, onProgress: onChange }));
  const guardian = stack.use(new Guardian(parts, runner));
  stack.use(sweeper);

  hub.attach(listener.server);
  const started = <Result>(result: Result): Result => {
    runner.nudge();
    return result;
  };
  listener.serve(
    createApp({
      ...{ db, clock, log, apiToken, fleet, events },
      version: VERSION,
      operations: {
        provision: async (body) => started(await startProvision(parts, body, config.storageName)),
        failover: async (workspaceId, reason) => started(await triggerFailover(parts, workspaceId, reason)),
        release: async (instanceId, how) => started(await startRelease(parts, instanceId, how)),
      },
      takeSnapshot: (workspaceId, how) => takeSnapshot(parts, workspaceId, how),
      failoverReport: (failoverId) => buildFailoverReport(db, failoverId, clock.nowMs()),
      injectLoss: (instanceId, kind) => injectLoss({ db, faults }, instanceId, kind),
    }),
  );
  stack.use(events);
  await wardship.resume();
  guardian.start();
  runner.start();
  sweeper.start();
  const owned = stack.move();
  return { url, apiToken, database: db.flavour, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A destroyed machine is asked about twice, this far apart; strangers are looked for once in a while. */
const SWEEP_PERIODS = { busyPeriodMs: 500, idlePeriodMs: 15_000 } as const;

const OPERATION_LIMITS: OperationLimits = {
  bootDeadlineMs: 300_000,
  restoreTimeoutMs: 3_600_000,
  workloadStableMs: 500,
  workloadStartTimeoutMs: 60_000,
  contactLossMs: 5_000,
  workloadGraceMs: 5_000,
  finalSnapshotTimeoutMs: 600_000,
  releaseWaitMs: 60_000,
  giveUpAfterMs: 1_800_000,
  retryPauseMs: 2_000,
};

function agentEnvironment(
  config: ControlConfig,
  secrets: ControlSecrets,
  publicUrl: string,
): Readonly<Record<string, string>> {
  return {
    DUMONT_CONTROL_URL: publicUrl,
    DUMONT_LOG_LEVEL: config.logLevel,
    ...(secrets.storage.kind === 'file' && { DUMONT_FILE_STORE_PATH: secrets.storage.path }),
  };
}

function localProviders(options: ControlPlaneOptions, clock: Clock, random: Random): ProviderRegistry {
  const { local } = options.config;
  if (!local.enabled) return new Map();
  const { agentCommand, log } = options;
  const provider = new LocalProvider({
    root: local.directory,
    agentCommand,
    clock,
    random,
    log,
    bootScale: local.bootScale,
  });
  return new Map([[provider.name, provider]]);
}

async function prepareStorage(storage: StorageGrant): Promise<void> {
  if (storage.kind === 'file') await mkdir(storage.path, { recursive: true, mode: 0o700 });
}

/** Loses a machine of the local provider. @throws {DumontError} NOT_FOUND, UNSUPPORTED for other providers */
async function injectLoss(
  parts: { readonly db: Database; readonly faults: LocalFaults },
  instanceId: InstanceId,
  kind: LossKind,
): Promise<void> {
  const instance = await findInstance(parts.db, instanceId);
  if (instance === undefined || instance.providerRef === null || instance.state === 'gone') {
    throw new DumontError('NOT_FOUND', `there is no machine ${instanceId}`, { field: 'instanceId' });
  }
  if (instance.offer.provider !== LOCAL_PROVIDER_NAME) {
    throw new DumontError('UNSUPPORTED', `machines of ${instance.offer.provider} cannot be lost on purpose`, {
      hint: 'Only machines of the provider "local" can.',
      field: 'instanceId',
    });
  }
  await parts.faults.lose(instance.providerRef, kind);
}
