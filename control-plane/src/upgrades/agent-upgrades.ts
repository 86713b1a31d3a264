import type { AgentRelease } from '@dumont/shared/model/agent-release.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { compareVersions } from '@dumont/shared/util/compare-versions.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { AgentHub } from '../hub/agent-hub.ts';
import type { AgentFacts } from './agent-facts.ts';
import { listReleases } from '../releases/list-releases.ts';
import type { Database } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { listInstances } from '../store/instances.ts';
import { moversOf } from '../store/lookups.ts';
import { chooseUpgrades, type UpgradeCandidate } from './choose-upgrades.ts';
import { rolledBackVersions } from './upgrade-history.ts';

/** A version that cannot come up must not take the whole fleet's agents away at once. */
export const MAX_CONCURRENT_UPGRADES = 4;
const ROUND_MS = 1_000;
/** A new release need not be found at once; looking reads a folder. */
const SCAN_MS = 15_000;
/** Fifty megabytes over a bad line, and some retries. */
const COMMAND_TIMEOUT_MS = 900_000;
/** A new version has 30 s to be welcomed; then the old one is started. */
const RETURN_TIMEOUT_MS = 90_000;
/** What was refused or failed is offered again on our own account after this. */
const RETRY_MS = 600_000;
/** How long a finished or hopeless order is shown. */
const FORGET_MS = 3_600_000;

/** As many as can be connected. */
const MAX_INSTANCES = 20_000;

export interface AgentUpgradesOptions {
  readonly db: Database;
  readonly hub: Pick<AgentHub, 'run'>;
  readonly fleet: { agent(instanceId: InstanceId): AgentFacts | undefined };
  readonly clock: Clock;
  readonly log: Logger;
  /** DUMONT_DOWNLOADS_DIR. */
  readonly downloadsDir: string;
  /** `auto` offers the newest release to every agent that is older. */
  readonly mode: 'manual' | 'auto';
  /** Called after each commit that appended events. */
  readonly onChange: () => void;
}

/** How an agent's upgrade stands. */
export interface UpgradeState {
  readonly to: string;
  readonly state: 'waiting' | 'running' | 'failed';
  readonly error: string | null;
}

interface Order extends UpgradeState, UpgradeCandidate {
  readonly release: AgentRelease;
  readonly force: boolean;
  readonly changedMs: number;
}

export type OrderAnswer = {
  readonly instanceId: InstanceId;
  /** `current`: it runs this version already. */
  readonly outcome: 'ordered' | 'current' | 'refused';
  readonly reason: string | null;
};

/**
 * Brings agents to another version, a few at a time, by the command `upgrade` (spec: docs/PROTOCOL.md). Orders are kept
 * in memory: after a restart of the control plane an operator asks again, `auto` finds them anew.
 */
export class AgentUpgrades implements AsyncDisposable {
  readonly #options: AgentUpgradesOptions;
  readonly #orders = new Map<InstanceId, Order>();
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;
  #scannedMs = Number.NEGATIVE_INFINITY;

  constructor(options: AgentUpgradesOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop ??= this.#runUntilStopped();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new DumontError('ABORTED', 'the control plane stops'));
    await this.#loop;
    await Promise.all(this.#running);
  }

  /** Version of the newest release; null without any. @throws {DumontError} IO */
  async newest(): Promise<string | null> {
    return (await listReleases(this.#options.downloadsDir))[0]?.version ?? null;
  }

  /** Null when nothing is planned for it and nothing failed lately. */
  state(instanceId: InstanceId): UpgradeState | null {
    const order = this.#orders.get(instanceId);
    if (order === undefined) return null;
    const { to, state, error } = order;
    return { to, state, error };
  }

  /**
   * Plans an upgrade of these machines' agents, each as soon as its turn comes.
   * @param how.version the newest release by default
   * @throws {DumontError} NOT_FOUND for a version that is not there, UNAVAILABLE without any release, IO
   */
  async order(
    instances: readonly InstanceRow[],
    how: { readonly version?: string | undefined; readonly force: boolean },
  ): Promise<{ readonly version: string; readonly agents: readonly OrderAnswer[] }> {
    const release = await this.#release(how.version);
    const agents = instances.map((instance): OrderAnswer => {
      const { id: instanceId } = instance;
      const refusal = this.#refusal(instanceId, release.version, how.force);
      if (refusal !== null) return { instanceId, ...refusal };
      this.#plan(instance, release, how.force);
      return { instanceId, outcome: 'ordered', reason: null };
    });
    return { version: release.version, agents };
  }

  async #release(version: string | undefined): Promise<AgentRelease> {
    const releases = await listReleases(this.#options.downloadsDir);
    const release = version === undefined ? releases[0] : releases.find((each) => each.version === version);
    if (release !== undefined) return release;
    if (version !== undefined && releases.length > 0) {
      const known = releases.map((each) => each.version).slice(0, 10);
      throw new DumontError('NOT_FOUND', `there is no release ${version} of the agent`, {
        field: 'version',
        hint: `There are: ${known.join(', ')}.`,
      });
    }
    throw new DumontError('UNAVAILABLE', 'no release of the agent was built', {
      hint: 'Run "npm run build:agent", or set DUMONT_DOWNLOADS_DIR to the folder of the releases.',
    });
  }

  /** Why this agent is not upgraded; null when it is. */
  #refusal(instanceId: InstanceId, to: string, force: boolean): Omit<OrderAnswer, 'instanceId'> | null {
    const agent = this.#options.fleet.agent(instanceId);
    const refused = (reason: string) => ({ outcome: 'refused', reason }) as const;
    if (agent === undefined) return refused('its agent is not connected');
    if (agent.version === to) return { outcome: 'current', reason: null };
    if (!agent.upgradable) return refused('its agent was not installed by install.sh, so it cannot upgrade itself');
    if (!force && compareVersions(to, agent.version) < 0) return refused(`it runs ${agent.version}, which is newer`);
    const order = this.#orders.get(instanceId);
    // Once the agent is back as what was ordered, only our own look at it is missing.
    if (order?.state === 'running' && order.to !== agent.version) return refused('an upgrade of it is under way');
    return null;
  }

  #plan({ id: instanceId, workspaceId, role }: InstanceRow, release: AgentRelease, force: boolean): void {
    const changedMs = this.#options.clock.monotonicMs();
    const rest = { state: 'waiting', error: null, changedMs } as const;
    this.#orders.set(instanceId, { instanceId, workspaceId, role, release, to: release.version, force, ...rest });
  }

  async #runUntilStopped(): Promise<void> {
    const { clock, log } = this.#options;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#round();
      } catch (error) {
        log.warn({ event: 'agent-upgrades.round', err: error }, 'agents could not be looked after, will try again');
      }
      await clock.sleep(ROUND_MS, this.#stop.signal).catch(() => {});
    }
  }

  async #round(): Promise<void> {
    const { mode, clock, db, fleet } = this.#options;
    const nowMs = clock.monotonicMs();
    if (mode === 'auto' && nowMs - this.#scannedMs >= SCAN_MS) {
      await this.#scan();
      this.#scannedMs = nowMs;
    }
    for (const [instanceId, order] of this.#orders) {
      if (order.state !== 'running' && nowMs - order.changedMs >= FORGET_MS) this.#orders.delete(instanceId);
    }
    const orders = [...this.#orders.values()];
    const waiting = orders.filter((order) => order.state === 'waiting');
    if (waiting.length === 0) return;
    const movers = await moversOf(db, [...new Set(waiting.map((order) => order.workspaceId))]);
    const underWay = orders.filter((order) => order.state === 'running').map((order) => order.workspaceId);
    const chosen = chooseUpgrades(waiting, {
      slots: MAX_CONCURRENT_UPGRADES - this.#running.size,
      busyWorkspaces: new Set([...movers.keys(), ...underWay]),
      isConnected: (instanceId) => fleet.agent(instanceId) !== undefined,
    });
    for (const order of chosen) {
      const running: Promise<void> = this.#upgrade(order).finally(() => this.#running.delete(running));
      this.#running.add(running);
    }
  }

  /** Plans the newest release that never had to be rolled back for every agent that is older. */
  async #scan(): Promise<void> {
    const { db, downloadsDir, fleet, clock } = this.#options;
    const [releases, rolledBack] = await Promise.all([listReleases(downloadsDir), rolledBackVersions(db)]);
    // What waits may have been rolled back elsewhere meanwhile.
    for (const [instanceId, order] of this.#orders) {
      if (order.state === 'waiting' && !order.force && rolledBack.has(order.to)) this.#orders.delete(instanceId);
    }
    const release = releases.find(({ version }) => !rolledBack.has(version));
    if (release === undefined) return;
    for (const instance of await listInstances(db, { includeGone: false, limit: MAX_INSTANCES })) {
      const agent = fleet.agent(instance.id);
      if (agent?.upgradable !== true || compareVersions(release.version, agent.version) <= 0) continue;
      const order = this.#orders.get(instance.id);
      const mayPlan =
        order === undefined || (order.state === 'failed' && clock.monotonicMs() - order.changedMs >= RETRY_MS);
      if (mayPlan) this.#plan(instance, release, false);
    }
  }

  /** Never rejects: its end is the order's state. */
  async #upgrade(planned: Order): Promise<void> {
    const { instanceId, to, release, force } = planned;
    const { hub, fleet } = this.#options;
    const before = fleet.agent(instanceId);
    const from = before?.version ?? null;
    this.#mark(planned, { state: 'running', error: null });
    try {
      await this.#append('agent.upgrade-offered', planned, { from, to });
      const action = { name: 'upgrade', release, downloadUrl: `/downloads/${to}/`, force } as const;
      const result = await hub.run(instanceId, action, {
        commandId: newId('command'),
        timeoutMs: COMMAND_TIMEOUT_MS,
        signal: this.#stop.signal,
      });
      const isSwitched = result.name === 'upgrade' && result.from !== result.to;
      const version = isSwitched ? await this.#versionAfter(instanceId, before) : to;
      if (version === to) this.#finish(planned);
      // Its hello told why, and was recorded.
      else if (version !== null) this.#mark(planned, { state: 'failed', error: `${to} was rolled back` });
      else throw new DumontError('UNAVAILABLE', `its agent has not come back as version ${to}`);
    } catch (error) {
      if (!this.#stop.signal.aborted) await this.#fail(planned, from, toDumontError(error).message);
    }
  }

  /** Never rejects. */
  async #fail(order: Order, from: string | null, reason: string): Promise<void> {
    const { instanceId, to } = order;
    const { log } = this.#options;
    this.#mark(order, { state: 'failed', error: reason });
    log.warn({ event: 'agent-upgrade-failed', instanceId, from, to, reason }, 'an agent was not upgraded');
    try {
      await this.#append('agent.upgrade-failed', order, { from, to, outcome: 'refused', reason });
    } catch (error) {
      log.error({ event: 'agent-upgrade-unrecorded', instanceId, err: error }, 'no history was written');
    }
  }

  /** What the agent's next process calls itself, whichever version that is; null when none came. */
  async #versionAfter(instanceId: InstanceId, before: AgentFacts | undefined): Promise<string | null> {
    const { clock, fleet } = this.#options;
    const deadlineMs = clock.monotonicMs() + RETURN_TIMEOUT_MS;
    while (clock.monotonicMs() < deadlineMs) {
      const agent = fleet.agent(instanceId);
      if (agent !== undefined && agent.bootId !== before?.bootId) return agent.version;
      await clock.sleep(ROUND_MS / 4, this.#stop.signal);
    }
    return null;
  }

  #mark(order: Order, change: Pick<UpgradeState, 'state' | 'error'>): void {
    if (!this.#isLatest(order)) return;
    this.#orders.set(order.instanceId, { ...order, ...change, changedMs: this.#options.clock.monotonicMs() });
  }

  #finish(order: Order): void {
    if (this.#isLatest(order)) this.#orders.delete(order.instanceId);
  }

  /** The agent may be back and asked for something else before its return was noticed here. */
  #isLatest({ instanceId, to }: Order): boolean {
    return this.#orders.get(instanceId)?.to === to;
  }

  async #append(
    type: 'agent.upgrade-offered' | 'agent.upgrade-failed',
    { workspaceId, instanceId }: Order,
    data: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { db, clock, onChange } = this.#options;
    await appendEvent(db, { type, atMs: clock.nowMs(), workspaceId, instanceId, data });
    onChange();
  }
}
