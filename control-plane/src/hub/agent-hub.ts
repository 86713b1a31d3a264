import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';
import type { Assignment, Hello } from '@dumont/shared/protocol/hello.ts';
import type { Upstream } from '@dumont/shared/protocol/messages.ts';
import type { SnapshotCommit } from '@dumont/shared/protocol/snapshot.ts';
import {
  AGENT_SOCKET_PATH,
  CLOSE_CODES,
  MAX_MESSAGE_BYTES,
  MIN_SUPPORTED_PROTOCOL_VERSION,
  PROTOCOL_VERSION,
} from '@dumont/shared/protocol/version.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { WebSocketServer } from 'ws';
import type { UpgradeSource } from '../node/upgrade-source.ts';
import type { AgentDirectory } from './agent-directory.ts';
import { AgentSession, type SessionOwner } from './agent-session.ts';
import { CommandDesk, type RunOptions } from './command-desk.ts';
import { ConnectionWaiters } from './connection-waiters.ts';
import type { HubListener } from './hub-listener.ts';
import { storeCredential } from './store-credential.ts';
import { HUB_LIMITS, type HubLimits } from './hub-limits.ts';

export interface AgentHubOptions {
  readonly directory: AgentDirectory;
  readonly listener: HubListener;
  readonly clock: Clock;
  readonly log: Logger;
  /** Between two acknowledgements of one agent's beats, ms; 1 s by default. */
  readonly heartbeatAckEveryMs?: number;
  /** Overrides of {@link HUB_LIMITS}. */
  readonly limits?: Partial<HubLimits>;
}

/**
 * The control plane's end of every agent socket (spec: docs/PROTOCOL.md): one live session per instance, the newest.
 * Facts go to the listener, questions to the directory, commands to the agents.
 */
export class AgentHub implements AsyncDisposable {
  readonly #directory: AgentDirectory;
  readonly #listener: HubListener;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #ackEveryMs: number;
  readonly #limits: HubLimits;
  readonly #upgrader: WebSocketServer;
  readonly #desk: CommandDesk;
  readonly #waiters = new ConnectionWaiters();
  /** Every session whose socket is open, in the order of their connections. */
  readonly #sessions = new Map<AgentSession, number>();
  readonly #ungreeted = new Set<AgentSession>();
  readonly #live = new Map<InstanceId, AgentSession>();
  /** Instances closed for good, with the reason, oldest first. */
  readonly #closedInstances = new Map<InstanceId, string>();
  readonly #background = new Set<Promise<void>>();
  readonly #detach: (() => void)[] = [];
  readonly #owner: SessionOwner;
  #connectionCount = 0;
  #disposed = false;

  constructor(options: AgentHubOptions) {
    this.#directory = options.directory;
    this.#listener = options.listener;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#ackEveryMs = options.heartbeatAckEveryMs ?? DEFAULT_ACK_EVERY_MS;
    this.#limits = { ...HUB_LIMITS, ...options.limits };
    this.#desk = new CommandDesk({ clock: options.clock, maxPerInstance: this.#limits.maxCommandsPerInstance });
    this.#upgrader = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: MAX_FRAME_BYTES,
    });
    this.#owner = {
      hello: (session, hello) => this.#onHello(session, hello),
      message: (session, message) => this.#onMessage(session, message),
      ended: (session, info) => this.#onEnded(session, info),
    };
  }

  /** Serves agents on AGENT_SOCKET_PATH of this server until disposed; upgrades of other paths are left alone. */
  attach(source: UpgradeSource): void {
    const detach = source.onUpgrade((request, socket, head) => {
      if (request.url?.split('?', 1)[0] !== AGENT_SOCKET_PATH) return false;
      this.#onUpgrade(request, socket, head);
      return true;
    });
    this.#detach.push(detach);
  }

  /** Instances with a live session. */
  get connectedCount(): number {
    return this.#live.size;
  }

  isConnected(instanceId: InstanceId): boolean {
    return this.#live.has(instanceId);
  }

  /**
   * When the instance's live session said something last, by the monotonic clock; null without one. A machine that is
   * frozen or cut off stays connected for minutes: its silence is what tells.
   */
  heardAtMonotonicMs(instanceId: InstanceId): number | null {
    return this.#live.get(instanceId)?.heardAtMonotonicMs ?? null;
  }

  /** Whose primary a connected standby may testify about: its own workspace's, while it synchronizes; null for others. */
  witnessedWorkspace(instanceId: InstanceId): WorkspaceId | null {
    const assignment = this.#live.get(instanceId)?.assignment;
    return assignment?.sync?.role === 'receive' ? assignment.workspaceId : null;
  }

  /**
   * Resolves once the instance has a live session, at once when it has.
   * @throws {DumontError} ABORTED
   */
  waitConnected(instanceId: InstanceId, options: { readonly signal: AbortSignal }): Promise<void> {
    if (this.#live.has(instanceId)) return Promise.resolve();
    if (this.#disposed) return Promise.reject(hubClosed());
    return this.#waiters.wait(instanceId, options.signal);
  }

  /**
   * Tells the instance how its workspace stands now. Unchanged assignments are not sent again; an instance that is not
   * connected gets the directory's answer with its next hello.
   */
  assign(instanceId: InstanceId, assignment: Assignment): void {
    for (const session of this.#ungreeted) {
      // Its admission may have been read before the change: the welcome must carry the newer one.
      if (session.instanceId === instanceId) session.assignment = assignment;
    }
    const session = this.#live.get(instanceId);
    if (session === undefined || isDeepStrictEqual(session.assignment, assignment)) return;
    session.assignment = assignment;
    session.send({ kind: 'assign', assignment });
  }

  /**
   * Has the agent do something and resolves with its result. Delivered while the agent is connected and again, with the
   * same command id, after every reconnect; agents are idempotent by command id.
   * @throws {DumontError} the agent's own code; TIMEOUT (the work may still go on); ABORTED; CONFLICT for a command id
   * that is under way; LIMIT; UNAVAILABLE for an instance closed for good
   */
  run(instanceId: InstanceId, action: Action, options: RunOptions): Promise<ActionResult> {
    if (this.#disposed) return Promise.reject(hubClosed());
    const closedBecause = this.#closedInstances.get(instanceId);
    if (closedBecause !== undefined) return Promise.reject(instanceClosed(instanceId, closedBecause));
    const result = this.#desk.open(instanceId, action, options);
    const session = this.#live.get(instanceId);
    if (session !== undefined) {
      const command = this.#desk.delivery(instanceId, options.commandId);
      if (command !== null) session.send(command);
    }
    return result;
  }

  /**
   * Ends the instance's session and forbids further commands to it for good: those under way reject with UNAVAILABLE.
   * Whether it may connect again is the directory's decision.
   */
  close(instanceId: InstanceId, closeCode: number, reason: string): void {
    this.#closedInstances.delete(instanceId);
    this.#closedInstances.set(instanceId, reason);
    const [oldest] = this.#closedInstances.keys();
    if (this.#closedInstances.size > MAX_CLOSED_INSTANCES && oldest !== undefined) this.#closedInstances.delete(oldest);
    this.#desk.rejectAll(instanceId, instanceClosed(instanceId, reason));
    for (const session of this.#sessions.keys()) {
      if (session.instanceId === instanceId) session.end(closeCode, reason);
    }
  }

  /**
   * Says goodbye to every agent, rejects what waits, and resolves when all sockets are gone and the directory has
   * answered what it was asked, or closeTimeoutMs have passed over that.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    for (const detach of this.#detach.splice(0)) detach();
    this.#desk.abortAll();
    this.#waiters.abortAll();
    const sessions = [...this.#sessions.keys()];
    for (const session of sessions) session.end(CLOSE_CODES.goingAway, 'the control plane restarts');
    await Promise.all(sessions.map((session) => session.closed));
    await this.#drainBackground();
  }

  async #drainBackground(): Promise<void> {
    let cancel = () => {};
    const timeout = new Promise<void>((resolve) => {
      cancel = this.#clock.after(this.#limits.closeTimeoutMs, resolve);
    });
    await Promise.race([Promise.all(this.#background), timeout]);
    cancel();
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const isFull =
      this.#ungreeted.size >= this.#limits.maxUngreeted || this.#sessions.size >= this.#limits.maxConnections;
    if (isFull || this.#disposed) {
      this.#log.warn({ event: 'agent-turned-away', connections: this.#sessions.size }, 'too many agent connections');
      socket.on('error', () => socket.destroy());
      socket.end(
        'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n',
      );
      return;
    }
    request.socket.setNoDelay(true);
    this.#upgrader.handleUpgrade(request, socket, head, (webSocket) => {
      const session = new AgentSession({
        socket: webSocket,
        owner: this.#owner,
        clock: this.#clock,
        log: this.#log,
        limits: this.#limits,
      });
      this.#connectionCount += 1;
      this.#sessions.set(session, this.#connectionCount);
      this.#ungreeted.add(session);
      this.#inBackground(session.closed.then(() => void this.#sessions.delete(session)));
    });
  }

  #onHello(session: AgentSession, hello: Hello): void {
    const { protocolVersion } = hello;
    if (protocolVersion < MIN_SUPPORTED_PROTOCOL_VERSION || protocolVersion > PROTOCOL_VERSION) {
      const supported = `${MIN_SUPPORTED_PROTOCOL_VERSION} to ${PROTOCOL_VERSION}`;
      const message = `protocol version ${protocolVersion} is not supported; this control plane speaks ${supported}`;
      const hint = protocolVersion > PROTOCOL_VERSION ? 'Upgrade the control plane first.' : 'Upgrade the agent.';
      session.refuse({ code: 'UNSUPPORTED', message, hint, field: 'protocolVersion' }, CLOSE_CODES.protocol);
      return;
    }
    this.#inBackground(this.#admit(session, hello));
  }

  async #admit(session: AgentSession, hello: Hello): Promise<void> {
    const { instanceId } = hello;
    let answer;
    try {
      answer = await this.#directory.admit(hello);
    } catch (error) {
      this.#log.error({ event: 'admission-failed', instanceId, error }, 'agent could not be checked');
      const message = 'the control plane cannot check the agent now';
      session.refuse({ code: 'UNAVAILABLE', message, hint: 'Connect again.' }, CLOSE_CODES.goingAway);
      return;
    }
    if (session.isEnded) return;
    if (answer.kind === 'refused') {
      session.refuse(answer.refused, answer.closeCode);
      return;
    }
    const other = this.#live.get(instanceId);
    if (other !== undefined && this.#orderOf(other) > this.#orderOf(session)) {
      session.end(CLOSE_CODES.superseded, 'a newer session of this instance took over');
      return;
    }
    this.#live.delete(instanceId);
    other?.end(CLOSE_CODES.superseded, 'a newer session of this instance took over');
    this.#start(session, hello, session.assignment ?? answer.assignment);
  }

  #start(session: AgentSession, hello: Hello, assignment: Assignment): void {
    const { instanceId, role, agentVersion, bootId, lastEpoch } = hello;
    this.#ungreeted.delete(session);
    this.#live.set(instanceId, session);
    session.welcome(assignment);
    const fields = {
      sessionId: session.id,
      instanceId,
      role,
      agentVersion,
      bootId,
      lastEpoch,
      epoch: assignment.epoch,
    };
    this.#log.info({ event: 'agent-connected', ...fields }, 'agent connected');
    this.#listener.connected(instanceId, hello);
    for (const command of this.#desk.deliveries(instanceId)) session.send(command);
    this.#waiters.connected(instanceId);
    session.releaseHeld();
  }

  #onMessage(session: AgentSession, message: Exclude<Upstream, Hello>): void {
    const instanceId = must(session.instanceId, 'a live session knows its instance');
    const [directory, log, limits] = [this.#directory, this.#log, this.#limits];
    switch (message.kind) {
      case 'heartbeat':
        this.#onHeartbeat(session, instanceId, message);
        return;
      case 'sample':
        this.#listener.sample(instanceId, message);
        return;
      case 'notice':
        this.#listener.notice(instanceId, message.notice);
        return;
      case 'command-ack':
      case 'command-progress':
      case 'command-result':
        if (!this.#desk.answer(instanceId, message)) {
          const { kind, commandId } = message;
          this.#log.debug(
            { event: 'late-command-answer', instanceId, kind, commandId },
            'nobody waits for this answer',
          );
        }
        return;
      case 'snapshot-commit':
        this.#inBackground(this.#onCommit(session, instanceId, message));
        return;
      case 'credential-propose':
      case 'credential-confirm':
        this.#inBackground(storeCredential({ directory, log, limits }, session, message));
        return;
    }
  }

  #onHeartbeat(session: AgentSession, instanceId: InstanceId, beat: Heartbeat): void {
    const nowMonotonicMs = this.#clock.monotonicMs();
    this.#listener.heartbeat(instanceId, beat, nowMonotonicMs);
    if (nowMonotonicMs - session.ackedAtMonotonicMs < this.#ackEveryMs || session.assignment === null) return;
    session.ackedAtMonotonicMs = nowMonotonicMs;
    session.send({ kind: 'heartbeat-ack', seq: beat.seq, epoch: session.assignment.epoch });
  }

  async #onCommit(session: AgentSession, instanceId: InstanceId, commit: SnapshotCommit): Promise<void> {
    if (session.commitsInFlight >= this.#limits.maxCommitsPerSession) {
      const message = `more than ${this.#limits.maxCommitsPerSession} snapshot commits wait for their verdict`;
      session.refuse({ code: 'LIMIT', message }, CLOSE_CODES.protocol);
      return;
    }
    session.commitsInFlight += 1;
    try {
      const verdict = await this.#directory.commitSnapshot(instanceId, commit);
      session.send({ kind: 'snapshot-verdict', requestId: commit.requestId, verdict });
    } catch (error) {
      const { snapshotId } = commit.snapshot;
      this.#log.error({ event: 'snapshot-commit-failed', instanceId, snapshotId, error }, 'snapshot commit failed');
      session.end(CLOSE_CODES.goingAway, 'the control plane could not book the snapshot; ask again');
    } finally {
      session.commitsInFlight -= 1;
    }
  }

  #onEnded(session: AgentSession, info: { readonly abrupt: boolean; readonly code: number }): void {
    this.#ungreeted.delete(session);
    const { instanceId } = session;
    if (instanceId === null || this.#live.get(instanceId) !== session) return;
    this.#live.delete(instanceId);
    this.#log.info({ event: 'agent-disconnected', sessionId: session.id, instanceId, ...info }, 'agent disconnected');
    this.#listener.disconnected(instanceId, info);
  }

  #orderOf(session: AgentSession): number {
    return this.#sessions.get(session) ?? 0;
  }

  /** Work that outlives its caller; each kind handles its own failures. Dispose waits for it. */
  #inBackground(work: Promise<void>): void {
    const tracked = work.finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }
}

/** An agent that hears nothing for a few of these knows that its socket is half-open. */
const DEFAULT_ACK_EVERY_MS = 1_000;

/**
 * Above the limit of a message, so that a message slightly too large gets a refusal that says so; what is larger than
 * this is cut off by the WebSocket library with close code 1009.
 */
const MAX_FRAME_BYTES = 2 * MAX_MESSAGE_BYTES;

/** Far more instances than can be closed while any of them still tries to come back. */
const MAX_CLOSED_INSTANCES = 10_000;

function hubClosed(): DumontError {
  return new DumontError('ABORTED', 'the agent hub is closed');
}

function instanceClosed(instanceId: InstanceId, reason: string): DumontError {
  return new DumontError('UNAVAILABLE', `${instanceId} takes no more commands: ${reason}`);
}
