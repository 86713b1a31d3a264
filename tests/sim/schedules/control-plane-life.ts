import { DetectionBook } from '@dumont/control-plane/detect/detection-book.ts';
import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import { MachineLocator } from '@dumont/control-plane/detect/machine-locator.ts';
import type { Verdict } from '@dumont/control-plane/detect/verdict.ts';
import type { StandbyLag } from '@dumont/control-plane/hub/standby-lag.ts';
import { failoverKind } from '@dumont/control-plane/operations/failover.ts';
import { Guardian } from '@dumont/control-plane/operations/guardian.ts';
import { anyKind } from '@dumont/control-plane/operations/operation-kind.ts';
import type { OperationLimits, OperationParts } from '@dumont/control-plane/operations/operation-parts.ts';
import { provisionKind } from '@dumont/control-plane/operations/provision.ts';
import { releaseKind } from '@dumont/control-plane/operations/release.ts';
import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import { standbyKind } from '@dumont/control-plane/operations/standby.ts';
import { StandbyKeeper } from '@dumont/control-plane/operations/standby-keeper.ts';
import { Wardship } from '@dumont/control-plane/operations/wardship.ts';
import { LedgerRenter } from '@dumont/control-plane/provisioning/ledger-renter.ts';
import { STRATEGIES } from '@dumont/control-plane/provisioning/strategies.ts';
import { Sweeper } from '@dumont/control-plane/provisioning/sweeper.ts';
import { dropLeases } from '@dumont/control-plane/store/operations.ts';
import { DatabaseAgentDirectory } from '@dumont/control-plane/workspaces/agent-directory.ts';
import { enrol } from '@dumont/control-plane/workspaces/enrolment.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { fileGrants } from '../../world/file-grants.ts';
import type { SimFleet } from './sim-fleet.ts';
import type { SimMachine } from './sim-machine.ts';
import type { SimProvider } from './sim-provider.ts';
import type { StoppableClock } from './virtual-clock.ts';
import type { WatchedDatabase } from './watched-database.ts';

const LABEL_PREFIX = 'dumont-sim-';
const GRACE_MS = 1_500;

/** Those of a control plane, with waits for hopeless cases cut short. */
const LIMITS: OperationLimits = {
  bootDeadlineMs: 30_000,
  restoreTimeoutMs: 30_000,
  workloadStableMs: 10,
  workloadStartTimeoutMs: 20_000,
  contactLossMs: 5_000,
  workloadGraceMs: 100,
  finalSnapshotTimeoutMs: 20_000,
  releaseWaitMs: 10_000,
  giveUpAfterMs: 120_000,
  retryPauseMs: 1_000,
  wayBackPauseMs: 20_000,
};

interface LifeParts {
  readonly db: WatchedDatabase;
  readonly clock: StoppableClock;
  readonly random: Random;
  readonly fleet: SimFleet;
  readonly provider: SimProvider;
  readonly owner: string;
}

/**
 * One process of the control plane from its start to its death: detector, guardian, operations, renter, keeper of standbys
 * and sweeper are the real ones, on the real store. In the place of its sockets are the machines of a fleet.
 */
export class ControlPlaneLife {
  readonly provider: SimProvider;
  readonly directory: DatabaseAgentDirectory;
  readonly parts: OperationParts;
  readonly runner: OperationRunner;
  readonly #db: WatchedDatabase;
  readonly #clock: StoppableClock;
  readonly #wardship: Wardship;
  readonly #monitor: HeartbeatMonitor;
  readonly #services: readonly { start(): void }[];
  readonly #owned: readonly AsyncDisposable[];
  readonly #sessions = new Map<InstanceId, SimMachine>();
  readonly #heardAtMs = new Map<InstanceId, number>();
  readonly #lags = new Map<InstanceId, StandbyLag>();
  readonly #waiters = new Set<() => void>();
  readonly #undelivered = new Map<InstanceId, Assignment>();
  /** What came while the process was stopped. */
  readonly #unread: (() => void)[] = [];
  #isDead = false;

  constructor(parts: LifeParts) {
    const { db, clock, random, fleet, provider, owner } = parts;
    this.#db = db;
    this.#clock = clock;
    this.provider = provider;
    const log = createLogger('sim', 'silent');
    const onChange = () => {};
    const standbySync = {
      secret: 'of the simulation',
      locate: () => Promise.resolve({ host: '10.0.0.9', port: 4_000 }),
    };
    const settings = { heartbeatIntervalMs: 200, storage: fileGrants('/none'), standbySync };
    this.directory = new DatabaseAgentDirectory({ db, clock, settings, storageName: 'file', onChange });
    const providers = new Map([[provider.name, provider]]);
    const book = new DetectionBook({ db, clock, log });
    const verdicts: { to?: (verdict: Verdict) => void } = {};
    const onVerdict = (verdict: Verdict) => {
      book.verdict(verdict);
      verdicts.to?.(verdict);
    };
    const { corroborator } = fleet;
    const monitor = new HeartbeatMonitor({ clock, corroborator, onVerdict, log, journal: book, loopLagMs: () => 0 });
    this.#monitor = monitor;
    book.connect(monitor);
    const hub = this.#hub(fleet);
    const locator = new MachineLocator({ db, providers });
    const wardship = new Wardship({ db, hub, monitor, locator, settings, graceMs: GRACE_MS, clock, log });
    this.#wardship = wardship;
    const changed = new Bell();
    const ground = { db, clock, log, providers, labelPrefix: LABEL_PREFIX, onChange };
    const periods = { busyPeriodMs: 500, goneGapMs: 400, idlePeriodMs: 5_000 };
    const sweeper = new Sweeper({ ...ground, ...periods, onGone: () => changed.ring() });
    const onRelease = () => sweeper.nudge();
    const renting = {
      ...ground,
      presence: hub,
      enrolTokenMs: 600_000,
      startScriptMs: 90_000,
      agentEnvironment: {},
      onRelease,
    };
    const standbyLag = (id: InstanceId) => this.#lags.get(id);
    const renterFor: OperationParts['renterFor'] = (forWhom) => new LedgerRenter(renting, forWhom);
    const live = { hub, wardship, standbyLag, changed, renterFor };
    this.parts = { ...ground, ...live, random, strategies: STRATEGIES, limits: LIMITS };
    const { parts: p } = this;
    const kinds = [
      anyKind(failoverKind(p)),
      anyKind(provisionKind(p)),
      anyKind(releaseKind(p)),
      anyKind(standbyKind(p)),
    ];
    this.runner = new OperationRunner({ ...ground, random, kinds, owner });
    const guardian = new Guardian(p, this.runner);
    verdicts.to = guardian.onVerdict;
    const keeper = new StandbyKeeper(p, { runner: this.runner, sync: standbySync, onRelease });
    this.#services = [guardian, this.runner, sweeper, keeper];
    this.#owned = [keeper, sweeper, guardian, this.runner, monitor, book];
  }

  /** As a start of the process: nobody else works on its operations. */
  async start(): Promise<void> {
    await dropLeases(this.#db);
    await this.#wardship.resume();
    for (const service of this.#services) service.start();
  }

  /** SIGKILL: nothing it does from here on has an effect. The promise tells when its remains are gone. */
  kill(): Promise<unknown> {
    this.#isDead = true;
    this.#db.kill();
    this.#sessions.clear();
    return Promise.allSettled(this.#owned.map((each) => each[Symbol.asyncDispose]()));
  }

  /** In good order. */
  async stop(): Promise<void> {
    await Promise.all(this.#owned.map((each) => each[Symbol.asyncDispose]()));
    this.#isDead = true;
  }

  pause(): void {
    this.#clock.stop();
  }

  goOn(): void {
    this.#clock.goOn();
    for (const read of this.#unread.splice(0)) read();
  }

  /** A machine joins or comes back. @returns false when it is to try again */
  async admit(machine: SimMachine): Promise<boolean> {
    if (this.#isDead || this.#clock.isStopped) return false;
    try {
      if (machine.instanceId === null) {
        const { enrolToken, credential } = machine;
        const body = { enrolToken, credential, hostname: 'h', agentVersion: '0' };
        const { instanceId, role } = await enrol(this.parts, body, 'here');
        Object.assign(machine, { instanceId, role });
      }
      const { instanceId, credential, role } = machine;
      if (instanceId === null) return false;
      const hello = { ...HELLO, instanceId, credential, role, lastEpoch: machine.highestEpoch };
      const answer = await this.directory.admit(hello);
      if (answer.kind !== 'admitted') return true;
      if (this.#isDead || !machine.reachesControl) return false;
      this.#sessions.set(instanceId, machine);
      this.#heardAtMs.set(instanceId, this.#clock.monotonicMs());
      machine.assign(answer.assignment);
      this.#monitor.connected(instanceId);
      for (const wake of this.#waiters) wake();
      return true;
    } catch {
      return false;
    }
  }

  /** A heartbeat arrives. */
  beat(instanceId: InstanceId, beat: Heartbeat): void {
    if (this.#clock.isStopped) this.#unread.push(() => this.beat(instanceId, beat));
    else if (this.#sessions.has(instanceId) && !this.#isDead) this.#read(instanceId, beat);
  }

  /** The machine's sockets broke: seen at once, unlike silence. */
  hangUp(instanceId: InstanceId): void {
    if (this.#clock.isStopped) this.#unread.push(() => this.hangUp(instanceId));
    else if (this.#sessions.delete(instanceId) && !this.#isDead)
      this.#monitor.disconnected(instanceId, { abrupt: true });
  }

  #read(instanceId: InstanceId, beat: Heartbeat): void {
    const nowMs = this.#clock.monotonicMs();
    this.#heardAtMs.set(instanceId, nowMs);
    const { standbyBehindBytes: bytes, standbyBehindMs: ms, peer } = beat;
    this.#lags.delete(instanceId);
    if (bytes !== undefined && ms !== undefined) this.#lags.set(instanceId, { bytes, ms, atMs: this.#clock.nowMs() });
    this.#monitor.observe(instanceId, beat, nowMs);
    const assignment = this.#sessions.get(instanceId)?.assignment;
    const testifies = peer !== undefined && assignment?.standing === 'standby';
    if (testifies) this.#monitor.testify(assignment.workspaceId, peer, nowMs);
  }

  #hub(fleet: SimFleet) {
    return {
      isConnected: (id: InstanceId) => this.#sessions.has(id),
      heardAtMonotonicMs: (id: InstanceId) => (this.#sessions.has(id) ? (this.#heardAtMs.get(id) ?? null) : null),
      assign: (id: InstanceId, assignment: Assignment) => this.#assign(id, assignment),
      run: (id: InstanceId, action: Action, { signal }: { readonly signal: AbortSignal; readonly timeoutMs: number }) =>
        this.#run(fleet.perform(id, action), signal),
      waitConnected: (id: InstanceId, { signal }: { readonly signal: AbortSignal }) => this.#waitConnected(id, signal),
    };
  }

  /** The newest, once the machine can read it: a connection that is cut delivers late. */
  #assign(instanceId: InstanceId, assignment: Assignment): void {
    const machine = this.#sessions.get(instanceId);
    if (machine === undefined) return;
    const isWaiting = this.#undelivered.has(instanceId);
    this.#undelivered.set(instanceId, assignment);
    if (!isWaiting) this.#deliver(instanceId, machine);
  }

  #deliver(instanceId: InstanceId, machine: SimMachine): void {
    const newest = this.#undelivered.get(instanceId);
    const isOver = this.#isDead || this.#sessions.get(instanceId) !== machine || !machine.isAlive;
    if (!isOver && !machine.reachesControl) {
      this.#clock.after(RETRY_DELIVERY_MS, () => this.#deliver(instanceId, machine));
      return;
    }
    this.#undelivered.delete(instanceId);
    if (!isOver && newest !== undefined) machine.assign(newest);
  }

  #run(work: Promise<ActionResult>, signal: AbortSignal): Promise<ActionResult> {
    const aborted = new Promise<never>((_, reject) => {
      const onAbort = () => reject(new DumontError('ABORTED', 'the command was called back'));
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
    return Promise.race([work, aborted]);
  }

  #waitConnected(instanceId: InstanceId, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (signal.aborted) reject(signal.reason as Error);
        else if (this.#sessions.has(instanceId)) resolve();
        else return;
        this.#waiters.delete(look);
      };
      this.#waiters.add(look);
      signal.addEventListener('abort', look, { once: true });
      look();
    });
  }
}

const RETRY_DELIVERY_MS = 100;
const HELLO = {
  kind: 'hello',
  protocolVersion: 2,
  agentVersion: '0',
  bootId: 'boot-0001',
  hostname: 'h',
  cpuCount: 1,
  memoryBytes: 1,
} as const;
