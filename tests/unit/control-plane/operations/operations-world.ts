import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import { fileGrants } from '../../../world/file-grants.ts';
import type { StandbyLag } from '@dumont/control-plane/hub/standby-lag.ts';
import { failoverTestKind } from '@dumont/control-plane/operations/failover-test.ts';
import { providerTestKind } from '@dumont/control-plane/operations/provider-test.ts';
import { failoverKind } from '@dumont/control-plane/operations/failover.ts';
import { Guardian } from '@dumont/control-plane/operations/guardian.ts';
import { anyKind } from '@dumont/control-plane/operations/operation-kind.ts';
import type { OperationLimits, OperationParts } from '@dumont/control-plane/operations/operation-parts.ts';
import { provisionKind } from '@dumont/control-plane/operations/provision.ts';
import { releaseKind } from '@dumont/control-plane/operations/release.ts';
import { StandbyKeeper } from '@dumont/control-plane/operations/standby-keeper.ts';
import { standbyKind } from '@dumont/control-plane/operations/standby.ts';
import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import { startProvision } from '@dumont/control-plane/operations/start.ts';
import { LedgerRenter } from '@dumont/control-plane/provisioning/ledger-renter.ts';
import { STRATEGIES } from '@dumont/control-plane/provisioning/strategies.ts';
import { Sweeper } from '@dumont/control-plane/provisioning/sweeper.ts';
import type { CreateRequest } from '@dumont/control-plane/providers/provider.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import type { OperationRow } from '@dumont/control-plane/store/operations.ts';
import { listOperations } from '@dumont/control-plane/store/operations.ts';
import { findWorkspace } from '@dumont/control-plane/store/workspaces.ts';
import { DatabaseAgentDirectory } from '@dumont/control-plane/workspaces/agent-directory.ts';
import { drawSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { enrol } from '@dumont/control-plane/workspaces/enrolment.ts';
import { assignmentFor } from '@dumont/control-plane/workspaces/assignments.ts';
import { provisionBodySchema } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { WorkspacePolicyInput } from '@dumont/shared/model/policy.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import type { TestDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { fastClock } from '../../../world/fast-clock.ts';
import { FickleDatabase } from '../../../world/fickle-database.ts';
import { MemoryProvider } from '../../../world/memory-provider.ts';
import { ScriptedAgents } from './scripted-agents.ts';

const LABEL_PREFIX = 'dumont-test-';

/** On the world's clock, which runs twenty times as fast as the wall's. */
const LIMITS: OperationLimits = {
  bootDeadlineMs: 60_000,
  restoreTimeoutMs: 60_000,
  workloadStableMs: 1,
  workloadStartTimeoutMs: 60_000,
  contactLossMs: 2_000,
  workloadGraceMs: 100,
  finalSnapshotTimeoutMs: 60_000,
  releaseWaitMs: 60_000,
  giveUpAfterMs: 20_000,
  retryPauseMs: 200,
  wayBackPauseMs: 60_000,
};

/**
 * The control plane's decisions on a real database, without sockets: operations, guardian, renter and sweeper are the
 * real ones; the market, the agents and who is watched are the test's.
 */
export class OperationsWorld implements AsyncDisposable {
  readonly clock = fastClock(20);
  /** What the control plane works with. */
  readonly db: FickleDatabase;
  /** What the test looks at. */
  readonly truth: Database;
  readonly log = createLogger('test', 'silent');
  readonly agents = new ScriptedAgents(this.clock);
  readonly provider: MemoryProvider;
  readonly watched = new Set<InstanceId>();
  /** Whose beats arrive in time. */
  readonly alive = new Set<InstanceId>();
  readonly directory: DatabaseAgentDirectory;
  readonly sweeper: Sweeper;
  readonly parts: OperationParts;
  readonly runner: OperationRunner;
  readonly guardian: Guardian;
  readonly keeper: StandbyKeeper;
  /** What primaries said of their standbys. */
  readonly lags = new Map<InstanceId, StandbyLag>();
  /** While true machines boot without their agents saying hello. */
  isMute = false;

  constructor(opened: TestDatabase, limits: Partial<OperationLimits> = {}) {
    const { clock, agents, log } = this;
    this.truth = opened.db;
    this.db = new FickleDatabase(opened.db);
    const { db } = this;
    const locate = () => Promise.resolve({ host: '10.0.0.9', port: 4_000 });
    const standbySync = { secret: 'of this installation', locate };
    const settings = { heartbeatIntervalMs: 200, storage: fileGrants('/none'), standbySync };
    const onChange = () => {};
    this.directory = new DatabaseAgentDirectory({ db, clock, settings, storageName: 'file', onChange });
    this.provider = new MemoryProvider((request) => void this.#boot(request));
    const providers = new Map([[this.provider.name, this.provider]]);
    const changed = new Bell();
    const ground = { db, clock, log, providers, labelPrefix: LABEL_PREFIX, onChange };
    const periods = { busyPeriodMs: 500, goneGapMs: 400, idlePeriodMs: 2_000 };
    this.sweeper = new Sweeper({ ...ground, ...periods, onGone: () => changed.ring() });
    const renterParts = {
      ...ground,
      presence: agents,
      enrolTokenMs: 600_000,
      startScriptMs: 90_000,
      agentEnvironment: {},
      onRelease: () => this.sweeper.nudge(),
    };
    this.parts = {
      ...ground,
      random: seededRandom(1),
      hub: agents,
      strategies: STRATEGIES,
      limits: { ...LIMITS, ...limits },
      changed,
      standbyLag: (id) => this.lags.get(id),
      wardship: {
        watch: (id) => void this.watched.add(id),
        unwatch: (id) => void this.watched.delete(id),
        isAlive: (id) => this.alive.has(id),
        inform: async (id) => {
          const assignment = await assignmentFor(db, id, settings);
          if (assignment !== undefined) agents.assign(id, assignment);
        },
      },
      renterFor: (owner) => new LedgerRenter(renterParts, owner),
    };
    const { parts } = this;
    const movers = [anyKind(failoverKind(parts)), anyKind(provisionKind(parts)), anyKind(releaseKind(parts))];
    const tests = [anyKind(failoverTestKind(parts)), anyKind(providerTestKind(parts))];
    const kinds = [...movers, anyKind(standbyKind(parts)), ...tests];
    this.runner = new OperationRunner({ ...ground, random: parts.random, kinds, owner: 'world', leaseMs: 120_000 });
    this.guardian = new Guardian(this.parts, this.runner);
    this.keeper = new StandbyKeeper(this.parts, {
      runner: this.runner,
      sync: settings.standbySync,
      onRelease: () => this.sweeper.nudge(),
    });
  }

  start(): this {
    this.runner.start();
    this.guardian.start();
    this.keeper.start();
    this.sweeper.start();
    return this;
  }

  /** A workspace with a running primary and, unless told otherwise, one committed snapshot. */
  async served(name = 'w', policy: WorkspacePolicyInput = { workload: { command: 'train' } }) {
    const body = provisionBodySchema.parse({ name, policy: { strategy: 'coldstart', ...policy } });
    const { operationId, workspaceId } = await startProvision(this.parts, body, 'file');
    this.runner.nudge();
    await this.finished(operationId);
    const primary = await this.primaryOf(workspaceId);
    this.alive.add(primary);
    return { workspaceId, primary };
  }

  async publish(primary: InstanceId, snapshot: SnapshotRecord) {
    const workspace = await this.workspace((await this.instance(primary)).workspaceId);
    return this.directory.commitSnapshot(primary, {
      kind: 'snapshot-commit',
      requestId: 'r',
      epoch: workspace.epoch,
      snapshot,
    });
  }

  /** The machine dies: its agent is gone and its beats end. */
  kill(instanceId: InstanceId): void {
    this.agents.disconnect(instanceId);
    this.alive.delete(instanceId);
  }

  say(kind: Verdict['kind'], instanceId: InstanceId): void {
    this.guardian.onVerdict({
      kind,
      instanceId,
      lastBeatAtMs: this.clock.nowMs() - 600,
      silenceMs: 600.4,
      evidence: [{ kind: 'silence', hard: false, atMs: this.clock.nowMs() }],
    });
  }

  async workspace(workspaceId: WorkspaceId) {
    return must(await findWorkspace(this.truth, workspaceId), 'the workspace exists');
  }

  async primaryOf(workspaceId: WorkspaceId): Promise<InstanceId> {
    return must((await this.workspace(workspaceId)).primaryInstanceId, 'somebody is primary');
  }

  async instance(instanceId: InstanceId) {
    const rows = await this.truth.query('select workspace_id, state, epoch from instances where id = $1', [instanceId]);
    const row = must(rows[0], 'the instance exists');
    return { workspaceId: row['workspace_id'] as WorkspaceId, state: row['state'], epoch: row['epoch'] };
  }

  failovers(workspaceId: WorkspaceId): Promise<readonly OperationRow[]> {
    return listOperations(this.truth, { workspaceId, kind: 'failover', limit: 50 });
  }

  /** The workspace's newest failover, once there are that many and it is in one of these states. */
  failover(workspaceId: WorkspaceId, states: readonly string[], count = 1): Promise<OperationRow> {
    return eventually(`failover ${count} is ${states.join(' or ')}`, async () => {
      const all = await this.failovers(workspaceId);
      return all.length >= count && all[0] !== undefined && states.includes(all[0].state) ? all[0] : undefined;
    });
  }

  finished(operationId: OperationId): Promise<OperationRow> {
    return this.runner.waitFor(operationId, AbortSignal.timeout(20_000));
  }

  /** Labels of machines that exist and those the books say we hold must be the same in the end. */
  async settled(): Promise<void> {
    await eventually('every machine is released or in use', async () => {
      const rows = await this.truth.query(
        'select 1 from ledger where gone_at is null and release_asked_at is not null',
      );
      return rows.length === 0;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.db.isDown = false;
    await this.keeper[Symbol.asyncDispose]();
    await this.sweeper[Symbol.asyncDispose]();
    await this.guardian[Symbol.asyncDispose]();
    await this.runner[Symbol.asyncDispose]();
  }

  async #boot(request: CreateRequest): Promise<void> {
    if (this.isMute) return;
    const enrolToken = must(request.agentEnvironment['DUMONT_ENROL_TOKEN'], 'a machine gets a token');
    const credential = drawSecret();
    const hello = {
      kind: 'hello',
      protocolVersion: 2,
      agentVersion: '0',
      bootId: 'boot-0001',
      lastEpoch: 0,
      hostname: 'h',
      cpuCount: 1,
      memoryBytes: 1,
    } as const;
    for (;;) {
      try {
        const body = { enrolToken, credential, hostname: 'h', agentVersion: '0' };
        const { instanceId, role } = await enrol(this.parts, body, 'here');
        const answer = await this.directory.admit({ ...hello, instanceId, credential, role });
        if (answer.kind === 'admitted') this.agents.connect(instanceId);
        return;
      } catch {
        await this.clock.sleep(200);
      }
    }
  }
}
