import { startProvision, startRelease, triggerFailover } from '@dumont/control-plane/operations/start.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { findWorkspace } from '@dumont/control-plane/store/workspaces.ts';
import { provisionBodySchema } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom, type Random } from '@dumont/shared/util/random.ts';
import { ControlPlaneLife } from './control-plane-life.ts';
import { brokenPromises, type Outcome } from './promises.ts';
import { drawSchedule, TROUBLE_MS, type CommonFault, type Happening, type MachineFault } from './schedule.ts';
import { SimFleet } from './sim-fleet.ts';
import type { SimMachine } from './sim-machine.ts';
import { SimProvider } from './sim-provider.ts';
import { StoppableClock, VirtualClock } from './virtual-clock.ts';
import { WatchedDatabase, type Traffic } from './watched-database.ts';

/** A step at which a batch looks whether what it waits for is there. */
const LOOK_MS = 500;
const READY_MS = 60_000;
/** After the last fault: the longest ways take a search, a boot and a wait for users on a standby. */
const SETTLE_MS = 400_000;
/** A machine that comes back is still there for so long, where its provider cannot destroy it. */
const ZOMBIE_MS = 4_000;
const BOOT_LEAST_MS = 300;
const BOOT_SPREAD_MS = 1_500;

export interface BatchReport extends Outcome {
  readonly schedules: number;
  readonly failovers: number;
  readonly takeovers: number;
  readonly averted: number;
  /** How long it lasted by its own clock. */
  readonly virtualMs: number;
}

/**
 * Some workspaces on one control plane, each with its standby and its own faults, from their first machine until everything
 * was given back. The faults follow from the seed.
 */
export async function simulateBatch(
  engine: Database,
  traffic: Traffic,
  options: { readonly seed: number; readonly schedules: number },
) {
  return new Batch(engine, traffic, options).run();
}

class Batch {
  readonly #engine: Database;
  readonly #traffic: Traffic;
  readonly #random: Random;
  readonly #seed: number;
  readonly #count: number;
  readonly #clock = new VirtualClock();
  readonly #provider: SimProvider;
  readonly #fleet: SimFleet;
  readonly #workspaces: WorkspaceId[] = [];
  readonly #seen = new Map<string, SimMachine>();
  #life: ControlPlaneLife | undefined;
  #lives = 0;
  #remains: Promise<unknown> = Promise.resolve();

  constructor(
    engine: Database,
    traffic: Traffic,
    { seed, schedules }: { readonly seed: number; readonly schedules: number },
  ) {
    this.#engine = engine;
    this.#traffic = traffic;
    this.#seed = seed;
    this.#count = schedules;
    this.#random = seededRandom(seed);
    const clock = this.#clock;
    const random = this.#random;
    this.#fleet = new SimFleet({ clock, random, machines: () => this.#provider.machines.values() });
    const boot = (machine: SimMachine) => {
      this.#seen.set(machine.ref, machine);
      this.#fleet.boot(machine, BOOT_LEAST_MS + BOOT_SPREAD_MS * random.next());
    };
    this.#provider = new SimProvider({ clock, random, boot });
  }

  async run(): Promise<BatchReport> {
    const schedule = drawSchedule(seededRandom(this.#seed), this.#count);
    await this.#startLife();
    for (let index = 0; index < this.#count; index += 1) await this.#provision(`w-${this.#seed}-${index}`);
    const isReady = await this.#until(READY_MS, () => this.#allFollowed());
    const problems: string[] = isReady ? [] : ['not every workspace became ready'];
    const startMs = this.#clock.monotonicMs();
    for (const [index, happenings] of schedule.workspaces.entries()) {
      const workspaceId = must(this.#workspaces[index], 'each has a schedule');
      for (const one of happenings) this.#clock.after(one.atMs, () => void this.#happen(workspaceId, one));
    }
    for (const { atMs, fault } of schedule.common) this.#clock.after(atMs, () => void this.#befall(fault));
    await this.#runUntil(startMs + TROUBLE_MS);
    if (!(await this.#until(SETTLE_MS, () => this.#allServed()))) problems.push(...(await this.#unfinished()));
    problems.push(...(await this.#promises()));
    const counts = await this.#counts();
    problems.push(...(await this.#giveBack()));
    return {
      ...counts,
      virtualMs: this.#clock.monotonicMs(),
      schedules: this.#count,
      problems,
      doubleWriterMs: this.#doubleWriterMs,
    };
  }

  #doubleWriterMs = 0;

  async #promises(): Promise<readonly string[]> {
    const machines = [...this.#seen.values()];
    const problems: string[] = [];
    for (const workspaceId of this.#workspaces) {
      const outcome = await brokenPromises(this.#engine, { workspaceId, machines, accepted: this.#fleet.accepted });
      problems.push(...outcome.problems);
      this.#doubleWriterMs = Math.max(this.#doubleWriterMs, outcome.doubleWriterMs);
    }
    return problems;
  }

  async #provision(name: string): Promise<void> {
    const policy = {
      strategy: this.#random.next() < 0.5 ? 'coldstart' : 'race',
      raceWidth: 2,
      workload: { command: 'train' },
      standby: { enabled: true, maxPriceMicroUsdPerHour: 1_000_000 },
    };
    const { workspaceId } = await startProvision(this.#parts, provisionBodySchema.parse({ name, policy }), 'file');
    this.#workspaces.push(workspaceId);
    this.#life?.runner.nudge();
  }

  get #parts() {
    return must(this.#life, 'a control plane runs').parts;
  }

  async #startLife(): Promise<void> {
    this.#lives += 1;
    const db = new WatchedDatabase(this.#engine, this.#traffic);
    const clock = new StoppableClock(this.#clock);
    const shared = { random: this.#random, fleet: this.#fleet, provider: this.#provider };
    const life = new ControlPlaneLife({ ...shared, db, clock, owner: `life-${this.#seed}-${this.#lives}` });
    await life.start();
    this.#life = life;
    this.#fleet.serve(life);
  }

  /** A fault of one workspace; one that hits nobody, because nobody is there, is none. */
  async #happen(workspaceId: WorkspaceId, happening: Happening): Promise<void> {
    const workspace = await findWorkspace(new WatchedDatabase(this.#engine, this.#traffic), workspaceId);
    if (happening.target === 'operator') {
      if (this.#life === undefined) return;
      await triggerFailover(this.#parts, workspaceId, 'asked for').catch(ignoreBusy);
      this.#life?.runner.nudge();
      return;
    }
    const { target, fault } = happening;
    const id = target === 'primary' ? workspace?.primaryInstanceId : workspace?.standbyInstanceId;
    const machine = id === null || id === undefined ? undefined : this.#fleet.instance(id);
    if (machine?.isAlive === true) this.#harm(machine, fault);
  }

  #harm(machine: SimMachine, fault: MachineFault): void {
    machine.harmed = true;
    const { ref, instanceId } = machine;
    const { lies } = this.#provider;
    const heal = (ms: number, undo: () => void) => this.#clock.after(ms, undo);
    const isKept = fault.kind !== 'kill' && fault.kind !== 'lie-gone' && fault.isKept;
    if (isKept) this.#provider.keptUntilMs.set(ref, this.#clock.monotonicMs() + fault.ms + ZOMBIE_MS);
    switch (fault.kind) {
      case 'kill':
        machine.isAlive = false;
        if (fault.lie !== null) lies.set(ref, fault.lie);
        if (fault.says === 'breaks' && instanceId !== null) this.#life?.hangUp(instanceId);
        break;
      case 'freeze':
        machine.isFrozen = true;
        heal(fault.ms, () => (machine.isFrozen = false));
        break;
      case 'cut-control':
        machine.controlUp = false;
        heal(fault.ms, () => (machine.controlUp = true));
        break;
      case 'cut-sync':
        machine.syncUp = false;
        heal(fault.ms, () => (machine.syncUp = true));
        break;
      case 'cut-both':
        Object.assign(machine, { controlUp: false, syncUp: false });
        heal(fault.ms, () => Object.assign(machine, { controlUp: true, syncUp: true }));
        break;
      case 'lie-gone':
        lies.set(ref, 'gone');
        heal(fault.ms, () => lies.delete(ref));
        break;
    }
  }

  async #befall(fault: CommonFault): Promise<void> {
    const life = this.#life;
    switch (fault.kind) {
      case 'restart':
        // One that is down already is not killed again.
        if (life === undefined) return;
        this.#life = undefined;
        this.#fleet.serve(null);
        this.#remains = Promise.all([this.#remains, life.kill()]);
        await this.#clock.sleep(fault.ms);
        await this.#startLife();
        return;
      case 'pause':
        if (life === undefined) return;
        life.pause();
        await this.#clock.sleep(fault.ms);
        life.goOn();
        return;
      case 'provider-down':
        this.#provider.downUntilMs = this.#clock.monotonicMs() + fault.ms;
        return;
      case 'orders':
        this.#provider.orderFaults.push(...fault.fates);
        return;
    }
  }

  #runUntil(atMs: number): Promise<void> {
    return this.#clock.run(atMs, this.#traffic.settled);
  }

  async #until(withinMs: number, isThere: () => Promise<boolean>): Promise<boolean> {
    const deadlineMs = this.#clock.monotonicMs() + withinMs;
    while (this.#clock.monotonicMs() < deadlineMs) {
      await this.#runUntil(this.#clock.monotonicMs() + LOOK_MS);
      if (this.#life !== undefined && (await isThere())) return true;
    }
    return false;
  }

  /** Every workspace has a primary that works, and a standby that has everything. */
  async #allFollowed(): Promise<boolean> {
    const primaries = await this.#primaries();
    return (
      primaries.length === this.#count &&
      primaries.every((machine) => {
        const sync = machine.assignment?.sync;
        return machine.isWorking && sync?.role === 'send' && machine.syncedToken === sync.token;
      })
    );
  }

  /** Every workspace is at work on a GPU machine that can be reached, and nothing is under way. */
  async #allServed(): Promise<boolean> {
    const primaries = await this.#primaries();
    if (primaries.length < this.#count) return false;
    if (!primaries.every(({ role, reachesControl, isWorking }) => role === 'gpu' && reachesControl && isWorking))
      return false;
    const rows = await this.#engine.query('select 1 from operations where finished_at is null limit 1');
    return rows.length === 0;
  }

  async #primaries(): Promise<readonly SimMachine[]> {
    const rows = await this.#engine.query('select primary_instance_id from workspaces where name like $1', [
      `w-${this.#seed}-%`,
    ]);
    const machines = rows.map((row) => this.#fleet.instance(row['primary_instance_id'] as InstanceId));
    return machines.filter((machine) => machine !== undefined);
  }

  async #unfinished(): Promise<readonly string[]> {
    const rows = await this.#engine.query('select kind, state, error from operations where finished_at is null');
    const operations = rows.map(
      (row) => `a ${String(row['kind'])} does not end: ${String(row['state'])} ${String(row['error'])}`,
    );
    const primaries = await this.#primaries();
    const idle = primaries.filter(({ isWorking, reachesControl }) => !isWorking || !reachesControl).length;
    const states = `${primaries.length} of ${this.#count} have a primary, ${idle} of them idle`;
    return [...operations, `the workspaces are not all served in the end: ${states}`];
  }

  async #counts() {
    const count = async (sql: string) => Number((await this.#engine.query(sql))[0]?.['n'] ?? 0);
    return {
      failovers: await count("select count(*) as n from operations where kind = 'failover' and state = 'completed'"),
      averted: await count("select count(*) as n from operations where kind = 'failover' and state = 'averted'"),
      takeovers: await count("select count(*) as n from events where type = 'workspace.on-standby'"),
    };
  }

  /** Stops every workspace: afterwards no machine exists, and the books say so. */
  async #giveBack(): Promise<readonly string[]> {
    for (const machine of await this.#primaries()) {
      const { instanceId } = machine;
      if (instanceId !== null) await startRelease(this.#parts, instanceId, { snapshotFirst: false }).catch(ignoreBusy);
    }
    this.#life?.runner.nudge();
    const isOver = await this.#until(SETTLE_MS, async () => {
      const open = await this.#engine.query('select 1 from ledger where gone_at is null limit 1');
      return open.length === 0 && this.#provider.machines.size === 0;
    });
    const left = `${this.#provider.machines.size} machines are left, by the books or in truth`;
    const life = this.#life;
    this.#life = undefined;
    this.#fleet.serve(null);
    const ended = Promise.all([life?.stop(), this.#remains]);
    const end = { isHere: false };
    void ended.then(() => (end.isHere = true));
    while (!end.isHere) await this.#runUntil(this.#clock.monotonicMs() + LOOK_MS);
    return isOver ? [] : [left];
  }
}

/** Another operation moves the workspace: people try again. */
function ignoreBusy(error: unknown): void {
  const isBusy =
    isDumontError(error, 'CONFLICT') || isDumontError(error, 'NOT_FOUND') || isDumontError(error, 'UNAVAILABLE');
  if (!isBusy) throw error;
}
