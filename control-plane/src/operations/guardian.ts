import type { InstanceId, OperationId } from '@dumont/shared/model/ids.ts';
import type { Verdict } from '../detect/verdict.ts';
import type { EventType } from '../store/event-types.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { applyInstanceEvent, findInstance, listUnattendedLosses } from '../store/instances.ts';
import { findOperation, listOperations } from '../store/operations.ts';
import { listLeftOnStandby } from '../store/standbys.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace, listUnserved, moverOf } from '../store/workspaces.ts';
import { failoverDataSchema } from './failover.ts';
import { fence } from './fence.ts';
import { startFailover } from './start.ts';
import { takeOver } from './takeover.ts';
import type { OperationParts } from './operation-parts.ts';
import type { OperationRunner } from './runner.ts';

/** Verdicts waiting to be acted on: a fleet that dies together gives up to four for each of 50,000 watched machines. */
const MAX_PENDING = 200_000;
/** At once; what fails then waits for the next round, so that those behind it get their turn. */
const ATTEMPTS = 3;
const RETRY_MS = 200;
const RECONCILE_MS = 2_000;

/**
 * Turns the detector's verdicts into operations, in the order they came: confirm opens a failover, commit fences the
 * old primary and sends users to the standby where there is one, alive stops a failover that has not fenced it.
 */
export class Guardian implements AsyncDisposable {
  readonly #parts: OperationParts;
  readonly #runner: Pick<OperationRunner, 'interrupt' | 'nudge'>;
  #pending = 0;
  #tail: Promise<void> = Promise.resolve();
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;
  /** The newest verdict of each instance whose verdict could not be acted on; the detector says each only once. */
  readonly #postponed = new Map<InstanceId, Verdict>();

  constructor(parts: OperationParts, runner: Pick<OperationRunner, 'interrupt' | 'nudge'>) {
    this.#parts = parts;
    this.#runner = runner;
  }

  /** Never throws, never blocks; called by the detector. */
  readonly onVerdict = (verdict: Verdict): void => {
    const { log } = this.#parts;
    const { kind, instanceId, silenceMs } = verdict;
    log.info(
      { event: 'detect.verdict', kind, instanceId, silenceMs, evidence: verdict.evidence.map((e) => e.kind) },
      'verdict',
    );
    if (this.#stop.signal.aborted) return;
    if (this.#pending >= MAX_PENDING) {
      log.error({ event: 'guardian.overflow', instanceId, kind }, 'verdict dropped: too many are waiting');
      return;
    }
    this.#pending += 1;
    void this.#inTurn(() => this.#actOrPostpone(verdict)).finally(() => (this.#pending -= 1));
  };

  /** Starts looking after verdicts put aside, and losses that were confirmed while another operation held the workspace. */
  start(): void {
    this.#loop ??= this.#reconcileUntilStopped();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#tail;
  }

  /** One thing after another, so that nothing is decided on what a verdict before it is about to change. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#tail = this.#tail.then(work);
    return this.#tail;
  }

  async #reconcileUntilStopped(): Promise<void> {
    const { clock } = this.#parts;
    while (!this.#stop.signal.aborted) {
      await this.#inTurn(() => this.#reconcile());
      await clock.sleep(RECONCILE_MS, this.#stop.signal).catch(() => {});
    }
  }

  async #reconcile(): Promise<void> {
    const { db, log } = this.#parts;
    try {
      for (const verdict of this.#postponed.values()) {
        await this.#act(verdict);
        this.#postponed.delete(verdict.instanceId);
      }
      for (const instance of await listUnattendedLosses(db)) await this.#attend(instance);
      const notFailedSinceMs = this.#parts.clock.nowMs() - this.#parts.limits.wayBackPauseMs;
      for (const workspace of await listUnserved(db, notFailedSinceMs)) await this.#serveAgain(workspace);
      for (const workspace of await listLeftOnStandby(db, notFailedSinceMs)) await this.#bringBack(workspace);
    } catch (error) {
      log.warn({ event: 'guardian.reconcile', err: error }, 'could not look after losses, will try again');
    }
  }

  async #attend(instance: InstanceRow): Promise<void> {
    const lostAtMs = instance.lostAtMs ?? this.#parts.clock.nowMs();
    await startFailover(this.#parts, {
      workspaceId: instance.workspaceId,
      data: {
        trigger: 'detector',
        reason: 'lost while another operation ran',
        fromInstanceId: instance.id,
        silenceBeganAtMs: lostAtMs,
        confirmedAtMs: lostAtMs,
        detectMs: 0,
      },
    });
    this.#runner.nudge();
  }

  /** The last machine was fenced, none was promoted after it, and nobody looks for one any more. */
  async #serveAgain({ id: workspaceId, endpointInstanceId: fromInstanceId }: WorkspaceRow): Promise<void> {
    const { db, clock } = this.#parts;
    const from = fromInstanceId === null ? undefined : await findInstance(db, fromInstanceId);
    const [last] = await listOperations(db, { kind: 'failover', workspaceId, limit: 1 });
    const before = last === undefined ? undefined : failoverDataSchema.parse(last.data);
    // It may have handed over everything before none was found to go on.
    const handedOver = before?.handedOverId === fromInstanceId ? before : undefined;
    const lostAtMs = handedOver?.savedAtMs ?? from?.lostAtMs ?? clock.nowMs();
    await startFailover(this.#parts, {
      workspaceId,
      data: {
        trigger: 'unserved',
        reason: 'left without a machine',
        fromInstanceId,
        silenceBeganAtMs: lostAtMs,
        confirmedAtMs: lostAtMs,
        detectMs: 0,
        handedOverId: handedOver?.handedOverId ?? null,
        savedAtMs: handedOver?.savedAtMs ?? null,
      },
    });
    this.#runner.nudge();
  }

  /** Users work on their standby and nobody looks for a GPU any more. */
  async #bringBack({ id: workspaceId, primaryInstanceId }: WorkspaceRow): Promise<void> {
    const nowMs = this.#parts.clock.nowMs();
    await startFailover(this.#parts, {
      workspaceId,
      data: {
        trigger: 'standby',
        reason: 'left on the standby',
        fromInstanceId: primaryInstanceId,
        silenceBeganAtMs: nowMs,
        confirmedAtMs: nowMs,
        detectMs: 0,
      },
    });
    this.#runner.nudge();
  }

  /** Never rejects. */
  async #actOrPostpone(verdict: Verdict): Promise<void> {
    const { log, clock } = this.#parts;
    const { kind, instanceId } = verdict;
    // This one is newer, and each grade makes up for the one before it.
    this.#postponed.delete(instanceId);
    for (let attempt = 1; !this.#stop.signal.aborted; attempt += 1) {
      try {
        await this.#act(verdict);
        return;
      } catch (error) {
        log.warn({ event: 'guardian.failed', err: error, instanceId, kind, attempt }, 'verdict not acted on yet');
      }
      if (attempt === ATTEMPTS) break;
      await clock.sleep(RETRY_MS * attempt, this.#stop.signal).catch(() => {});
    }
    // Nothing but a line of history hangs on a suspicion; the rest must not be lost, or a workspace stays down for ever.
    if (kind !== 'suspect') this.#postponed.set(instanceId, verdict);
  }

  async #act(verdict: Verdict): Promise<void> {
    const instance = await findInstance(this.#parts.db, verdict.instanceId);
    if (instance === undefined) return;
    switch (verdict.kind) {
      case 'suspect':
        return this.#record('instance.suspect', verdict, null);
      case 'confirm':
        return this.#confirm(verdict);
      case 'commit':
        return this.#commit(verdict);
      case 'alive':
        return this.#alive(verdict);
    }
  }

  async #confirm(verdict: Verdict): Promise<void> {
    const { db, clock } = this.#parts;
    const { instanceId, silenceMs, lastBeatAtMs, evidence } = verdict;
    const instance = await findInstance(db, instanceId);
    const workspace = instance === undefined ? undefined : await findWorkspace(db, instance.workspaceId);
    if (workspace === undefined || workspace.primaryInstanceId !== instanceId) return;
    const started = await startFailover(this.#parts, {
      workspaceId: workspace.id,
      data: {
        trigger: 'detector',
        reason: evidence.map(({ kind }) => kind).join(', '),
        evidence: [...evidence],
        fromInstanceId: instanceId,
        silenceBeganAtMs: Math.round(lastBeatAtMs),
        confirmedAtMs: Math.round(lastBeatAtMs + silenceMs),
        detectMs: silenceMs,
        standbyLag: this.#parts.standbyLag(instanceId) ?? null,
      },
    });
    if (started !== undefined) {
      this.#runner.nudge();
      return;
    }
    const change = await db.transaction((tx) => applyInstanceEvent(tx, instanceId, 'lost', clock.nowMs()));
    if (change === undefined || change.before === change.after) return;
    const moverId = (await moverOf(db, workspace.id)) ?? null;
    await this.#record('instance.lost', verdict, moverId);
    if (moverId !== null) await this.#interruptIfCandidate(moverId, instanceId);
  }

  async #commit(verdict: Verdict): Promise<void> {
    // Its confirm may have failed: a fence without a failover would leave the workspace to nobody.
    await this.#confirm(verdict);
    const { db } = this.#parts;
    const instance = await findInstance(db, verdict.instanceId);
    if (instance === undefined) return;
    const moverId = (await moverOf(db, instance.workspaceId)) ?? null;
    const { workspaceId, id: instanceId } = instance;
    const loss = { workspaceId, instanceId, operationId: moverId };
    if (!(await takeOver(this.#parts, loss))) await fence(this.#parts, loss);
  }

  async #alive(verdict: Verdict): Promise<void> {
    const { db, clock } = this.#parts;
    const instance = await findInstance(db, verdict.instanceId);
    if (instance === undefined) return;
    const moverId = await moverOf(db, instance.workspaceId);
    await db.transaction((tx) => applyInstanceEvent(tx, verdict.instanceId, 'returned', clock.nowMs()));
    await this.#record('instance.alive', verdict, moverId ?? null);
    if (moverId === undefined) return;
    const operation = await findOperation(db, moverId);
    const data = operation?.kind === 'failover' ? failoverDataSchema.parse(operation.data) : undefined;
    if (data?.trigger !== 'detector' || data.fromInstanceId !== verdict.instanceId) return;
    await this.#runner.interrupt(moverId, 'refuted');
  }

  /** The lost primary may be the very machine a running operation just promoted: that operation tries another. */
  async #interruptIfCandidate(operationId: OperationId, instanceId: InstanceId): Promise<void> {
    const instance = await findInstance(this.#parts.db, instanceId);
    if (instance?.operationId !== operationId) return;
    await this.#runner.interrupt(operationId, 'attemptFailed');
  }

  async #record(type: EventType, verdict: Verdict, operationId: OperationId | null): Promise<void> {
    const { db, clock } = this.#parts;
    const instance = await findInstance(db, verdict.instanceId);
    const { silenceMs, evidence, instanceId } = verdict;
    await appendEvent(db, {
      type,
      atMs: clock.nowMs(),
      workspaceId: instance?.workspaceId ?? null,
      instanceId,
      operationId,
      data: { silenceMs: Math.round(silenceMs), evidence: evidence.map(({ kind, hard }) => ({ kind, hard })) },
    });
    this.#parts.onChange();
  }
}
