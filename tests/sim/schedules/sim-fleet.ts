import type { Corroborator, Evidence } from '@dumont/control-plane/detect/verdict.ts';
import { newId, type InstanceId, type SnapshotId } from '@dumont/shared/model/ids.ts';
import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { assertNever, must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { ControlPlaneLife } from './control-plane-life.ts';
import type { Content, SimMachine } from './sim-machine.ts';

const BEAT_MS = 200;
const WRITE_MS = 250;
const SYNC_MS = 25;
const PUBLISH_MS = 2_000;
const RECONNECT_MS = 300;
const TRIP_MS = 10;
const NEVER = new Promise<never>(() => {});

/** A write that somebody confirmed: from then on it must not be lost, and nobody else may have writes confirmed. */
export interface Accepted {
  readonly by: 'control plane' | 'standby';
  readonly machine: string;
  readonly epoch: number;
  readonly atMs: number;
  readonly content: Content;
  /** The standby that confirmed. */
  readonly receiver: string | null;
}

/**
 * Every rented machine and its agent, without files and sockets: who is told what, who writes, what reaches the standby and
 * the bucket. The agents' rules are those of the agent's leases; the control plane they talk to is the real one.
 */
export class SimFleet {
  readonly accepted: Accepted[] = [];
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #machines: () => Iterable<SimMachine>;
  readonly #snapshots = new Map<SnapshotId, Content>();
  #life: ControlPlaneLife | null = null;
  #writes = 0;

  constructor(parts: {
    readonly clock: Clock;
    readonly random: Random;
    readonly machines: () => Iterable<SimMachine>;
  }) {
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#machines = parts.machines;
  }

  /** The control plane that agents reach from now on; null while there is none. */
  serve(life: ControlPlaneLife | null): void {
    this.#life = life;
    if (life !== null) for (const machine of this.#machines()) this.#reconnectSoon(machine);
  }

  /** A machine comes up: joins, and does what its agent does from then on. */
  boot(machine: SimMachine, afterMs: number): void {
    this.#clock.after(afterMs, () => {
      this.#reconnectSoon(machine);
      // Machines do not beat in step.
      this.#clock.after(BEAT_MS * this.#random.next(), () => this.#repeat(machine, BEAT_MS, () => this.#beat(machine)));
      this.#repeat(machine, WRITE_MS, () => this.#write(machine));
      this.#repeat(machine, PUBLISH_MS, () => void this.publish(machine));
    });
  }

  instance(instanceId: InstanceId): SimMachine | undefined {
    for (const machine of this.#machines()) if (machine.instanceId === instanceId) return machine;
    return undefined;
  }

  /** What a machine does when it is asked; an answer may never come. */
  async perform(instanceId: InstanceId, action: Action): Promise<ActionResult> {
    await this.#clock.sleep(TRIP_MS);
    const machine = this.instance(instanceId);
    if (machine === undefined || !(await this.#reached(machine))) return NEVER;
    const result = await this.#act(machine, action);
    return (await this.#reached(machine)) ? result : NEVER;
  }

  /** Second opinions: what a probe and the provider would say. */
  readonly corroborator: Corroborator = {
    corroborate: async (instanceId, timeoutMs) => {
      const life = this.#life;
      const machine = this.instance(instanceId);
      await this.#clock.sleep(Math.min(timeoutMs, 2 * TRIP_MS + 40 * this.#random.next()));
      const evidence = (kind: Evidence['kind'], hard: boolean) => ({ kind, hard, atMs: this.#clock.nowMs() });
      if (machine === undefined) return [evidence('provider-gone', true)];
      const said = life?.provider.lies.get(machine.ref) ?? (machine.isAlive ? 'running' : 'interrupted');
      const found = [];
      if (said === 'gone') found.push(evidence('provider-gone', true));
      if (said === 'interrupted') found.push(evidence('provider-interrupted', true));
      found.push(machine.reachesControl ? evidence('probe-answered', false) : evidence('probe-silent', false));
      return found;
    },
  };

  /** Takes a snapshot and has it committed. @returns null when nothing is new, or nobody said yes */
  async publish(machine: SimMachine): Promise<SnapshotRecord | null> {
    const { assignment, content } = machine;
    if (!machine.runs || !machine.believesPrimary || assignment === null || machine.isPublishing) return null;
    if (machine.savedContent === content) return null;
    machine.isPublishing = true;
    try {
      const startMs = this.#clock.monotonicMs();
      await this.#clock.sleep(50 + 300 * this.#random.next());
      const createMs = this.#clock.monotonicMs() - startMs;
      if (!machine.believesPrimary) return null;
      // It may arrive before the machine hears that it is fenced.
      const isReached = await this.#reached(machine);
      const life = this.#life;
      if (life === null || !isReached) return null;
      const record = { ...EMPTY_RECORD, snapshotId: newId('snapshot'), parentId: machine.headId, createMs };
      const startedAtMs = this.#clock.nowMs() - Math.round(createMs);
      return await this.#commit(
        machine,
        { ...record, startedAtMs, manifestKey: `m/${record.snapshotId}` },
        { assignment, content, life },
      );
    } catch {
      // The control plane died meanwhile; what became of it shows at the next attempt.
      return null;
    } finally {
      machine.isPublishing = false;
    }
  }

  /** What was sent into a connection that is cut arrives when it is not. @returns false when the machine is dead */
  async #reached(machine: SimMachine): Promise<boolean> {
    while (machine.isAlive && !machine.reachesControl) await this.#clock.sleep(TRIP_MS);
    return machine.isAlive;
  }

  async #commit(
    machine: SimMachine,
    snapshot: SnapshotRecord,
    under: { readonly assignment: Assignment; readonly content: Content; readonly life: ControlPlaneLife },
  ): Promise<SnapshotRecord | null> {
    const { assignment, content, life } = under;
    const instanceId = must(machine.instanceId, 'it has joined');
    const { epoch } = assignment;
    this.#snapshots.set(snapshot.snapshotId, content);
    const message = { kind: 'snapshot-commit', requestId: snapshot.snapshotId, epoch, snapshot } as const;
    const verdict = await life.directory.commitSnapshot(instanceId, message);
    if (verdict.kind === 'committed') {
      const atMs = this.#clock.monotonicMs();
      this.accepted.push({ by: 'control plane', machine: machine.ref, epoch, atMs, content, receiver: null });
      machine.headId = snapshot.snapshotId;
      machine.savedContent = content;
      return snapshot;
    }
    if (verdict.kind === 'stale-parent') machine.headId = verdict.head?.snapshotId ?? null;
    else machine.highestEpoch = Math.max(machine.highestEpoch, verdict.epoch);
    return null;
  }

  async #act(machine: SimMachine, action: Action): Promise<ActionResult> {
    switch (action.name) {
      case 'restore': {
        await this.#clock.sleep(100 + 500 * this.#random.next());
        const { snapshotId } = action.snapshot;
        machine.content = this.#snapshots.get(snapshotId) ?? [];
        machine.savedContent = machine.content;
        machine.headId = snapshotId;
        return { name: 'restore', restore: { ...EMPTY_RESTORE, snapshotId } };
      }
      case 'snapshot': {
        while (machine.isPublishing) await this.#clock.sleep(TRIP_MS);
        const record = await this.publish(machine);
        if (record === null && machine.savedContent !== machine.content) {
          throw new DumontError('UNAVAILABLE', 'it could not be published', { retryable: true });
        }
        return { name: 'snapshot', record };
      }
      case 'start-workload':
        if (!machine.believesPrimary) throw new DumontError('CONFLICT', 'not the primary');
        machine.isWorking = true;
        return { name: 'start-workload', state: 'running', pid: 1 };
      case 'stop-workload':
        machine.isWorking = false;
        return { name: 'stop-workload', state: 'stopped' };
      case 'harvest':
        return { name: 'harvest', record: null, summary: null };
      case 'merge-branch':
      case 'verify-restore':
      case 'trial-workload':
      case 'write-probe':
      case 'read-probe':
      case 'sample-gpus':
      case 'upgrade':
        throw new DumontError('UNSUPPORTED', `${action.name} is not simulated`);
      default:
        return assertNever(action);
    }
  }

  #write(machine: SimMachine): void {
    if (!machine.runs || !machine.isWorking) return;
    this.#writes += 1;
    machine.content = [...machine.content, this.#writes];
    machine.behindSinceMs ??= this.#clock.monotonicMs();
    this.#clock.after(SYNC_MS, () => this.#sync(machine));
  }

  #sync(machine: SimMachine): void {
    const sync = machine.assignment?.sync;
    if (sync?.role !== 'send' || !machine.runs || !machine.syncUp || !machine.believesPrimary) return;
    const receiver = this.#receiverOf(sync);
    if (receiver === undefined) return;
    receiver.content = machine.content;
    machine.behindSinceMs = null;
    machine.syncedToken = sync.token;
    const { epoch } = sync;
    const atMs = this.#clock.monotonicMs();
    this.accepted.push({
      by: 'standby',
      machine: machine.ref,
      epoch,
      atMs,
      content: machine.content,
      receiver: receiver.ref,
    });
  }

  #receiverOf({ token, epoch }: { readonly token: string; readonly epoch: number }): SimMachine | undefined {
    for (const machine of this.#machines()) if (machine.hearsSync(token, epoch)) return machine;
    return undefined;
  }

  #beat(machine: SimMachine): void {
    if (!machine.runs) return;
    const nowMs = this.#clock.monotonicMs();
    const { assignment } = machine;
    const sync = assignment?.sync;
    if (sync?.role === 'send' && machine.syncUp && machine.believesPrimary) {
      const receiver = this.#receiverOf(sync);
      if (receiver !== undefined) {
        receiver.heard = { atMs: nowMs, epoch: sync.epoch };
        // What was cut off is sent again.
        if (machine.behindSinceMs !== null || machine.syncedToken !== sync.token) this.#sync(machine);
      }
    }
    if (!machine.controlUp || assignment === null || machine.instanceId === null) return;
    const hasCopy = sync?.role === 'send' && machine.syncedToken === sync.token;
    const behindMs = machine.behindSinceMs === null ? 0 : nowMs - machine.behindSinceMs;
    this.#life?.beat(machine.instanceId, {
      kind: 'heartbeat',
      seq: 0,
      epoch: assignment.epoch,
      monotonicMs: nowMs,
      mainLagMs: 0,
      gpuUtilPct: null,
      unsavedMs: 0,
      workload: machine.isWorking ? 'running' : 'stopped',
      ...(hasCopy && { standbyBehindBytes: 0, standbyBehindMs: behindMs }),
      ...(machine.heard !== null && { peer: { epoch: machine.heard.epoch, heardMsAgo: nowMs - machine.heard.atMs } }),
    });
  }

  #repeat(machine: SimMachine, everyMs: number, work: () => void): void {
    const cancel = this.#clock.every(everyMs, () => {
      if (machine.isAlive) work();
      else cancel();
    });
  }

  /** Says hello until it is answered. */
  #reconnectSoon(machine: SimMachine): void {
    this.#clock.after(RECONNECT_MS * (0.5 + this.#random.next()), () => {
      const life = this.#life;
      if (!machine.isAlive || life === null) return;
      if (!machine.reachesControl) {
        this.#reconnectSoon(machine);
        return;
      }
      void life.admit(machine).then((isDone) => {
        if (!isDone && this.#life === life) this.#reconnectSoon(machine);
      });
    });
  }
}

const EMPTY_RECORD = {
  manifestHash: 'ab'.repeat(32),
  fileCount: 1,
  totalBytes: 1,
  newBytes: 1,
  storedBytes: 1,
  tornPaths: [],
};
const EMPTY_RESTORE = {
  fileCount: 1,
  bytesWritten: 1,
  bytesFetched: 1,
  totalMs: 1,
  downloadMs: 1,
  decompressMs: 1,
  hookMs: 0,
};
