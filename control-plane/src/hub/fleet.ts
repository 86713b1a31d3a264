import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Heartbeat, Sample } from '@dumont/shared/protocol/heartbeat.ts';
import type { Hello } from '@dumont/shared/protocol/hello.ts';
import type { Notice } from '@dumont/shared/protocol/notice.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { HeartbeatMonitor } from '../detect/heartbeat-monitor.ts';
import type { FleetView } from '../http/services.ts';
import type { AgentFacts } from '../upgrades/agent-facts.ts';
import type { AgentHub } from './agent-hub.ts';
import type { HubListener } from './hub-listener.ts';
import type { StandbyLag } from './standby-lag.ts';

/** A fleet's worth of primaries with a standby; the one longest without news goes first. */
const MAX_LAGS = 50_000;

/** The live facts of all connected agents: passes them to the detector and keeps the newest for those who ask. */
export class Fleet implements HubListener, FleetView {
  readonly #beats = new Map<InstanceId, Heartbeat>();
  /** Outlives the connection: what a lost primary said last tells what its standby has. */
  readonly #lags = new Map<InstanceId, StandbyLag>();
  readonly #agents = new Map<InstanceId, AgentFacts>();
  readonly #clock: Clock;
  #hub: AgentHub | undefined;
  #monitor: HeartbeatMonitor | undefined;
  #onNotice: ((instanceId: InstanceId, notice: Notice) => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Hub, monitor and fleet know each other; this closes the circle once, before the first socket. */
  connect(parts: { readonly hub: AgentHub; readonly monitor: HeartbeatMonitor }): void {
    this.#hub = parts.hub;
    this.#monitor = parts.monitor;
  }

  connected(instanceId: InstanceId, hello: Hello): void {
    const { agentVersion: version, bootId, upgradable = false } = hello;
    this.#agents.set(instanceId, { version, bootId, upgradable });
    this.#monitor?.connected(instanceId);
  }

  disconnected(instanceId: InstanceId, info: { readonly abrupt: boolean; readonly code: number }): void {
    this.#monitor?.disconnected(instanceId, info);
    this.#beats.delete(instanceId);
    this.#agents.delete(instanceId);
  }

  heartbeat(instanceId: InstanceId, beat: Heartbeat, receivedMonotonicMs: number): void {
    this.#beats.set(instanceId, beat);
    this.#noteLag(instanceId, beat);
    this.#monitor?.observe(instanceId, beat, receivedMonotonicMs);
    if (beat.peer !== undefined) this.#testify(instanceId, beat.peer, receivedMonotonicMs);
  }

  /** What the instance's newest beat said of its standby, connected or not; undefined when it said nothing. */
  readonly standbyLag = (instanceId: InstanceId): StandbyLag | undefined => this.#lags.get(instanceId);

  /** Who acts on what agents say unasked; set before the first socket. */
  noticesTo(receiver: (instanceId: InstanceId, notice: Notice) => void): void {
    this.#onNotice = receiver;
  }

  notice(instanceId: InstanceId, notice: Notice): void {
    this.#onNotice?.(instanceId, notice);
  }

  /** Nobody reads the slow telemetry yet. */
  sample(_instanceId: InstanceId, _sample: Sample): void {}

  get connectedCount(): number {
    return this.#hub?.connectedCount ?? 0;
  }

  isConnected(instanceId: InstanceId): boolean {
    return this.#hub?.isConnected(instanceId) ?? false;
  }

  liveness(instanceId: InstanceId): ReturnType<FleetView['liveness']> {
    return this.#monitor?.status(instanceId)?.state ?? null;
  }

  lastBeat(instanceId: InstanceId): Heartbeat | undefined {
    return this.#beats.get(instanceId);
  }

  agent(instanceId: InstanceId): AgentFacts | undefined {
    return this.#agents.get(instanceId);
  }

  /** What a standby says of its primary counts for its own workspace only, whatever it is sent. */
  #testify(instanceId: InstanceId, peer: NonNullable<Heartbeat['peer']>, receivedMonotonicMs: number): void {
    const workspaceId = this.#hub?.witnessedWorkspace(instanceId) ?? null;
    if (workspaceId !== null) this.#monitor?.testify(workspaceId, peer, receivedMonotonicMs);
  }

  #noteLag(instanceId: InstanceId, { standbyBehindBytes: bytes, standbyBehindMs: ms }: Heartbeat): void {
    this.#lags.delete(instanceId);
    if (bytes === undefined || ms === undefined) return;
    this.#lags.set(instanceId, { bytes, ms, atMs: this.#clock.nowMs() });
    if (this.#lags.size <= MAX_LAGS) return;
    const [oldest] = this.#lags.keys();
    if (oldest !== undefined) this.#lags.delete(oldest);
  }
}
