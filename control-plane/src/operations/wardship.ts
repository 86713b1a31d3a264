import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { DetectMode } from '@dumont/shared/model/policy.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import type { HeartbeatMonitor } from '../detect/heartbeat-monitor.ts';
import type { MachineLocator } from '../detect/machine-locator.ts';
import type { AgentHub } from '../hub/agent-hub.ts';
import type { Database } from '../store/database.ts';
import { isHarvestOpen } from '../store/harvests.ts';
import { listWithPrimary } from '../store/workspaces.ts';
import type { AssignmentSettings } from '../workspaces/assignments.ts';
import { assignmentFor } from '../workspaces/assignments.ts';

/** One provider call. */
const LOCATE_TIMEOUT_MS = 30_000;

/**
 * Keeps the live side in step with who is primary in the database: tells agents their new standing and has the
 * detector watch primaries, and only them.
 */
export class Wardship {
  readonly #db: Database;
  readonly #hub: Pick<AgentHub, 'isConnected' | 'assign'>;
  readonly #monitor: HeartbeatMonitor;
  readonly #locator: MachineLocator;
  readonly #settings: AssignmentSettings;
  readonly #graceMs: number;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(parts: {
    readonly db: Database;
    readonly hub: Pick<AgentHub, 'isConnected' | 'assign'>;
    readonly monitor: HeartbeatMonitor;
    readonly locator: MachineLocator;
    readonly settings: AssignmentSettings;
    /** After a start or a promotion nobody is judged before this long passed without a beat. */
    readonly graceMs: number;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#db = parts.db;
    this.#hub = parts.hub;
    this.#monitor = parts.monitor;
    this.#locator = parts.locator;
    this.#settings = parts.settings;
    this.#graceMs = parts.graceMs;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  /** After a (re)start: watch every primary of the database. */
  async resume(): Promise<void> {
    for (const workspace of await listWithPrimary(this.#db)) {
      if (workspace.primaryInstanceId !== null) this.watch(workspace.primaryInstanceId, workspace.policy.detectMode);
    }
  }

  watch(instanceId: InstanceId, mode: DetectMode): void {
    this.#monitor.watch(instanceId, { mode, graceMs: this.#graceMs });
    // Learn its address while it is well; when this fails the corroborator looks it up itself.
    void this.#learnAddress(instanceId);
  }

  unwatch(instanceId: InstanceId): void {
    this.#monitor.unwatch(instanceId);
    this.#locator.forget(instanceId);
  }

  /** Tells a connected agent what it is now; an absent one hears it in its next welcome. */
  async inform(instanceId: InstanceId): Promise<void> {
    const assignment = await assignmentFor(this.#db, instanceId, this.#settings);
    if (assignment === undefined) return;
    const isCutOff = assignment.standing === 'fenced' && !(await isHarvestOpen(this.#db, instanceId));
    if (isCutOff) this.#settings.storage.end(instanceId);
    // Also while it is being admitted: what its welcome is about to say may have been read before the change.
    this.#hub.assign(instanceId, assignment);
    if (!this.#hub.isConnected(instanceId)) return;
    const { standing, epoch } = assignment;
    this.#log.info({ event: 'wardship.inform', instanceId, standing, epoch }, 'agent told its standing');
  }

  /** True when the watched instance's beats arrive in time, over a connection that stands. */
  isAlive(instanceId: InstanceId): boolean {
    // At the end of its grace an instance that never spoke counts as alive for a moment; it has no connection.
    return this.#hub.isConnected(instanceId) && this.#monitor.status(instanceId)?.state === 'alive';
  }

  async #learnAddress(instanceId: InstanceId): Promise<void> {
    using deadline = new Deadline(this.#clock, LOCATE_TIMEOUT_MS);
    try {
      await this.#locator.locate(instanceId, { signal: deadline.signal });
    } catch (error) {
      this.#log.debug({ event: 'wardship.locate', instanceId, err: error }, 'address not learnt yet');
    }
  }
}
