import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { LossKind } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import type { ControlConfig, ControlSecrets } from './config.ts';
import { MachineCorroborator } from './detect/corroborate.ts';
import { DetectionBook } from './detect/detection-book.ts';
import { HeartbeatMonitor } from './detect/heartbeat-monitor.ts';
import { MachineLocator } from './detect/machine-locator.ts';
import { EndpointBook } from './gateway/machine-endpoints.ts';
import { GatewayAddresses } from './gateway/addresses.ts';
import { Gateway } from './gateway/gateway.ts';
import { createApp } from './http/app.ts';
import type { ApiServices } from './http/services.ts';
import { listen } from './http/listen.ts';
import { AgentHub } from './hub/agent-hub.ts';
import { Fleet } from './hub/fleet.ts';
import { EventFeed } from './live/event-feed.ts';
import { ensureApiToken } from './node/api-token.ts';
import { addMachine } from './operations/add-machine.ts';
import { failoverKind } from './operations/failover.ts';
import { buildFailoverReport } from './operations/failover-report.ts';
import { Guardian } from './operations/guardian.ts';
import { failoverTestKind } from './operations/failover-test.ts';
import { anyKind } from './operations/operation-kind.ts';
import type { OperationLimits, OperationParts } from './operations/operation-parts.ts';
import { providerTestKind } from './operations/provider-test.ts';
import { provisionKind } from './operations/provision.ts';
import { releaseKind } from './operations/release.ts';
import { StandbyKeeper } from './operations/standby-keeper.ts';
import { standbyKind } from './operations/standby.ts';
import { NoticeDesk } from './operations/notice-desk.ts';
import { OperationRunner } from './operations/runner.ts';
import { startProvision, startRelease, triggerFailover } from './operations/start.ts';
import { mergeBranch } from './operations/merge-branch.ts';
import { openTestDesk } from './operations/test-desk.ts';
import { takeSnapshot } from './operations/take-snapshot.ts';
import type { Verdict } from './detect/verdict.ts';
import { VerdictRelay } from './detect/verdict-relay.ts';
import { Wardship } from './operations/wardship.ts';
import { LocalFaults } from './providers/local/local-faults.ts';
import { LOCAL_PROVIDER_NAME } from './providers/local/market.ts';
import { openProviders } from './providers/open-providers.ts';
import { OwnProvider } from './providers/own/own-provider.ts';
import type { Provider, ProviderRegistry } from './providers/provider.ts';
import type { RenterParts } from './provisioning/ledger-renter.ts';
import { LedgerRenter } from './provisioning/ledger-renter.ts';
import { STRATEGIES } from './provisioning/strategies.ts';
import { Sweeper } from './provisioning/sweeper.ts';
import type { Database } from './store/database.ts';
import { findInstance } from './store/instances.ts';
import { findLedger } from './store/ledger.ts';
import { dropLeases } from './store/operations.ts';
import { openDatabase } from './store/open-database.ts';
import { ensureSetting } from './store/settings.ts';
import { LoopLag } from './telemetry/loop-lag.ts';
import { AgentUpgrades } from './upgrades/agent-upgrades.ts';
import { VERSION } from './version.ts';
import { storageSigner } from './http/routes/agent-storage.ts';
import { keepGrants } from './storage/keep-grants.ts';
import { objectRemover } from './storage/remove-object.ts';
import { DatabaseAgentDirectory } from './workspaces/agent-directory.ts';
import { BranchKeeper } from './workspaces/branch-keeper.ts';
import { drawSecret } from './workspaces/credentials.ts';
import { standbySync } from './workspaces/locate-standby.ts';

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
    /** The installer to serve; install/install.sh of the repository by default. */
    readonly installScript?: string;
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
  await using stack = new AsyncDisposableStack();
  const ground = await layGround(options, stack);
  const live = buildLiveSide(ground, stack);
  const { runner, guardian, keeper, sweeper, parts } = buildOperations(ground, live, stack);
  const upgrades = stack.use(buildUpgrades(ground, live));
  const branches = stack.use(
    new BranchKeeper({ ...ground, removeObject: objectRemover(ground.secrets.storage, ground.clock) }),
  );
  const { listener, db, clock, log, config, apiToken, events } = ground;

  const { gateway, addresses } = buildGateway(ground, stack);
  // First in line: by host name a workload may use any path, also one that means something here.
  gateway.attach(listener);
  live.hub.attach(listener);
  const started = <Result>(result: Result): Result => {
    runner.nudge();
    gateway.nudge();
    return result;
  };
  const services: ApiServices = {
    db,
    clock,
    log,
    apiToken,
    events,
    gateway: addresses,
    fleet: live.fleet,
    upgrades,
    version: VERSION,
    operations: {
      provision: async (body) => started(await startProvision(parts, body, config.storageName)),
      addMachine: async (body) => started(await addMachine({ ...ground, ownTokenMs: config.ownTokenMs }, body)),
      failover: async (workspaceId, reason) => started(await triggerFailover(parts, workspaceId, reason)),
      release: async (instanceId, how) => started(await startRelease(parts, instanceId, how)),
    },
    onChange: ground.onChange,
    publicUrl: config.publicUrl,
    downloads: {
      folder: config.downloadsDirectory,
      installScript: options.overrides?.installScript ?? INSTALL_SCRIPT,
    },
    takeSnapshot: (workspaceId, how) => takeSnapshot(parts, workspaceId, how),
    branches: {
      merge: (branchId, request) => mergeBranch(parts, branchId, request),
      delete: (branch) => branches.delete(branch),
    },
    tests: openTestDesk(parts, { runner, fleet: live.fleet }),
    failoverReport: (failoverId) => buildFailoverReport(db, failoverId, clock.nowMs()),
    signRequests: storageSigner({ db, clock, storage: ground.secrets.storage, plan: ground.secrets.grants }),
    injectLoss: (instanceId, kind) => injectLoss({ db, faults: ground.faults }, instanceId, kind),
  };
  await gateway.start();
  listener.serve(gateway.handle(createApp(services)));
  // Open event streams end before the server waits for its connections.
  stack.use(events);
  await live.wardship.resume();
  guardian.start();
  runner.start();
  sweeper.start();
  keeper.start();
  upgrades.start();
  branches.start();
  const owned = stack.move();
  const dispose = () => owned.disposeAsync();
  return { url: ground.url, apiToken, database: db.flavour, [Symbol.asyncDispose]: dispose };
}

type Ground = Awaited<ReturnType<typeof layGround>>;
type LiveSide = ReturnType<typeof buildLiveSide>;

/** What everything stands on: port, storage, token, database, providers. */
async function layGround(options: ControlPlaneOptions, stack: AsyncDisposableStack) {
  const { config, secrets, log, overrides } = options;
  const clock = overrides?.clock ?? systemClock;
  const random = overrides?.random ?? systemRandom;
  const listener = stack.use(await listen(config));
  const url = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${listener.port}`;
  await prepareStorage(secrets.storage);
  const apiToken = secrets.apiToken ?? (await ensureApiToken(config.dataDirectory));
  const db = stack.use(await openDatabase({ databaseUrl: secrets.databaseUrl, dataDirectory: config.dataDirectory }));
  // The embedded database has one process: whoever held leases on its operations is dead.
  if (db.flavour === 'pglite') await dropLeases(db);
  const events = new EventFeed({ db, clock });
  const bookkeeping = keepGrants({ ...options, clock, random, db, events }, stack);
  const installationId = await ensureSetting(db, 'installation-id', () => randomUUID().slice(0, 8));
  const providers = withOwn(overrides?.providers ?? (await openProviders({ ...options, clock, random })), db);
  const endpoints = new EndpointBook({ db, providers, clock });
  const syncSecret = await ensureSetting(db, 'sync-secret', drawSecret);
  return {
    config,
    secrets,
    log,
    clock,
    random,
    listener,
    url,
    apiToken,
    db,
    events,
    limits: { ...limitsFor(config), ...overrides?.limits },
    labelPrefix: `dumont-${installationId}-`,
    providers,
    faults: new LocalFaults({ root: config.local.directory, clock }),
    settings: {
      heartbeatIntervalMs: config.heartbeatIntervalMs,
      credentialRotateMs: config.credentialRotateMs,
      storage: bookkeeping.book,
      standbySync: standbySync(syncSecret, { endpoints, clock }),
    },
    connectGrants: bookkeeping.connect,
    /** Rings when a workspace was fenced or got a primary, or a machine was proven gone. */
    changed: new Bell(),
    onChange: () => events.wake(),
  };
}

/** Sockets, detector, and who is watched. */
function buildLiveSide(ground: Ground, stack: AsyncDisposableStack) {
  const { db, clock, log, settings, config, providers, onChange } = ground;
  const fleet = new Fleet(clock);
  const directory = new DatabaseAgentDirectory({ db, clock, settings, storageName: config.storageName, onChange });
  const hub = stack.use(new AgentHub({ directory, listener: fleet, clock, log }));
  const loopLag = stack.use(new LoopLag(clock));
  const locator = new MachineLocator({ db, providers });
  const corroborator = new MachineCorroborator({ locate: (id, how) => locator.locate(id, how), clock, log });
  const verdicts = new VerdictRelay();
  const book = stack.use(new DetectionBook({ db, clock, log }));
  const onVerdict = (verdict: Verdict) => {
    book.verdict(verdict);
    verdicts.pass(verdict);
  };
  const monitor = stack.use(
    new HeartbeatMonitor({ clock, corroborator, onVerdict, log, journal: book, loopLagMs: () => loopLag.lagMs }),
  );
  book.connect(monitor);
  fleet.connect({ hub, monitor });
  const wardship = new Wardship({ db, hub, monitor, locator, settings, graceMs: config.startGraceMs, clock, log });
  ground.connectGrants({ hub, wardship });
  return { fleet, hub, wardship, verdicts };
}

/** The durable processes and those who start them. */
function buildOperations(ground: Ground, live: LiveSide, stack: AsyncDisposableStack) {
  const { db, clock, random, log, changed, onChange } = ground;
  const { hub } = live;
  const sweeper = new Sweeper({
    ...ground,
    ...SWEEP_PERIODS,
    onGone: (instanceId) => {
      hub.close(instanceId, CLOSE_CODES.released, 'the machine was given back');
      ground.settings.storage.end(instanceId);
      changed.ring();
    },
  });
  const renterParts: RenterParts = {
    ...ground,
    presence: hub,
    agentEnvironment: agentEnvironment(ground),
    enrolTokenMs: ground.limits.bootDeadlineMs + ENROL_MARGIN_MS,
    startScriptMs: ground.limits.bootDeadlineMs * START_SCRIPT_SHARE,
    onRelease: () => sweeper.nudge(),
  };
  const parts: OperationParts = {
    ...ground,
    ...live,
    strategies: STRATEGIES,
    standbyLag: live.fleet.standbyLag,
    renterFor: (owner) => new LedgerRenter(renterParts, owner),
  };
  const movers = [anyKind(failoverKind(parts)), anyKind(provisionKind(parts)), anyKind(releaseKind(parts))];
  const tests = [anyKind(providerTestKind(parts)), anyKind(failoverTestKind(parts))];
  const kinds = [...movers, anyKind(standbyKind(parts)), ...tests];
  const owner = `control-plane-${randomUUID()}`;
  const runner = stack.use(new OperationRunner({ db, clock, random, log, owner, kinds, onProgress: onChange }));
  const guardian = stack.use(new Guardian(parts, runner));
  live.verdicts.to(guardian.onVerdict);
  live.fleet.noticesTo(stack.use(new NoticeDesk(parts, runner)).onNotice);
  const keeper = stack.use(
    new StandbyKeeper(parts, { runner, sync: ground.settings.standbySync, onRelease: () => sweeper.nudge() }),
  );
  stack.use(sweeper);
  return { runner, guardian, keeper, sweeper, parts };
}

/** After the boot deadline: a machine that is a little late finds out by being given back, not by a worthless token. */
const ENROL_MARGIN_MS = 600_000;

/** Of the boot deadline: a start script is done in a minute, and what is left is enough to do it over SSH. */
const START_SCRIPT_SHARE = 0.3;

const INSTALL_SCRIPT = join(import.meta.dirname, '..', '..', 'install', 'install.sh');

function buildUpgrades({ db, clock, log, config, onChange }: Ground, { hub, fleet }: LiveSide): AgentUpgrades {
  const { downloadsDirectory: downloadsDir, agentUpgrade: mode } = config;
  return new AgentUpgrades({ db, hub, fleet, clock, log, downloadsDir, mode, onChange });
}

/** The users' addresses; open connections end before the server waits for them. */
function buildGateway(ground: Ground, stack: AsyncDisposableStack) {
  const { config, url, limits: _operations, ...shared } = ground;
  const { host, gateway: settings } = config;
  const publicUrl = config.publicUrl ?? url;
  const protocol = publicUrl.startsWith('https:') ? 'https' : 'http';
  const gateway = stack.use(new Gateway({ ...shared, ...settings, host, protocol }));
  return { gateway, addresses: new GatewayAddresses({ ...shared, publicUrl, domain: settings.domain }) };
}

/** A destroyed machine is asked about in every busy round; strangers are looked for once in a while. */
const SWEEP_PERIODS = { busyPeriodMs: 500, goneGapMs: 400, idlePeriodMs: 15_000 } as const;

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
  wayBackPauseMs: 900_000,
};

/** Silent for this many beats: not one that was lost on the way. */
const CONTACT_LOSS_BEATS = 5;

function limitsFor({ bootDeadlineMs, heartbeatIntervalMs }: ControlConfig): OperationLimits {
  const contactLossMs = Math.max(OPERATION_LIMITS.contactLossMs, CONTACT_LOSS_BEATS * heartbeatIntervalMs);
  return { ...OPERATION_LIMITS, bootDeadlineMs, contactLossMs };
}

function agentEnvironment({ config, secrets, url }: Ground): Readonly<Record<string, string>> {
  return {
    DUMONT_CONTROL_URL: config.publicUrl ?? url,
    DUMONT_LOG_LEVEL: config.logLevel,
    ...(secrets.storage.kind === 'file' && { DUMONT_FILE_STORE_PATH: secrets.storage.path }),
    ...(secrets.snapshotPassword !== undefined && { SNAPSHOT_PASSWORD: secrets.snapshotPassword }),
  };
}

/** Machines that owners bring need no configuration, so they are always possible. */
function withOwn(providers: ProviderRegistry, db: Database): ProviderRegistry {
  const own = new OwnProvider(async (ref) => {
    const row = await findLedger(db, ref as InstanceId);
    return row !== undefined && row.goneAtMs === null && row.releaseAskedAtMs === null;
  });
  return new Map<string, Provider>([...providers, [own.name, own]]);
}

async function prepareStorage(storage: DirectGrant): Promise<void> {
  if (storage.kind !== 'file') return;
  try {
    await mkdir(storage.path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new DumontError('IO', `cannot keep snapshots in ${storage.path}: ${toDumontError(error).message}`, {
      field: 'FILE_STORE_PATH',
      hint: 'Make the folder writable, or set DUMONT_DATA_DIR (or FILE_STORE_PATH alone) to another.',
      cause: error,
    });
  }
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
