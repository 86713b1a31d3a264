import type { InstanceId, OperationId } from '@dumont/shared/model/ids.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import type { Verdict } from '../detect/verdict.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { applyInstanceEvent, findInstance, listUnattendedLosses } from '../store/instances.ts';
import { findOperation } from '../store/operations.ts';
import { findWorkspace, moverOf } from '../store/workspaces.ts';
import { failoverDataSchema } from './failover.ts';
import { fence } from './failover-commit.ts';
import { startFailover } from './start.ts';
import type { OperationParts } from './operation-parts.ts';
import type { OperationRunner } from './runner.ts';

/** Verdicts waiting to be acted on; a fleet that dies together gives a few for each machine. */
const MAX_PENDING = 50_000;
const ATTEMPTS = 5;
const RETRY_MS = 200;
const RECONCILE_MS = 2_000;

/**
 * Turns the detector's verdicts into operations, in the order they came: confirm opens a failover, commit fences the
 * old primary, alive stops a failover that has not fenced it.
 */
export class Guardian implements AsyncDisposable {
  readonly #parts: OperationParts;
  readonly #runner: OperationRunner;
  #pending = 0;
  #tail: Promise<void> = Promise.resolve();
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;
  #closed = false;

  constructor(parts: OperationParts, runner: OperationRunner) {
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
    if (this.#closed) return;
    if (this.#pending >= MAX_PENDING) {
      log.error({ event: 'guardian.overflow', instanceId, kind }, 'verdict dropped: too many are waiting');
      return;
    }
    this.#pending += 1;
    this.#tail = this.#tail.then(() => this.#actSafely(verdict)).finally(() => (this.#pending -= 1));
  };

  /** Starts looking after losses that were confirmed while another operation held the workspace. */
  start(): void {
    this.#loop ??= this.#reconcile();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#stop.abort();
    await this.#loop;
    await this.#tail;
  }

  async #reconcile(): Promise<void> {
    const { db, clock, log } = this.#parts;
    while (!this.#stop.signal.aborted) {
      try {
        for (const instance of await listUnattendedLosses(db)) await this.#attend(instance);
      } catch (error) {
        log.warn({ event: 'guardian.reconcile', err: error }, 'could not look for unattended losses, will try again');
      }
      await clock.sleep(RECONCILE_MS, this.#stop.signal).catch(() => {});
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

  async #actSafely(verdict: Verdict): Promise<void> {
    const { log, clock } = this.#parts;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      try {
        await this.#act(verdict);
        return;
      } catch (error) {
        const last = attempt === ATTEMPTS || this.#closed;
        log[last ? 'error' : 'warn'](
          { event: 'guardian.failed', err: error, kind: verdict.kind, attempt },
          'verdict not acted on',
        );
        if (last) return;
        await clock.sleep(RETRY_MS * attempt);
      }
    }
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
    const instance = await findInstance(db, verdict.instanceId);
    const workspace = instance === undefined ? undefined : await findWorkspace(db, instance.workspaceId);
    if (workspace === undefined || workspace.primaryInstanceId !== verdict.instanceId) return;
    await db.transaction((tx) => applyInstanceEvent(tx, verdict.instanceId, 'lost', clock.nowMs()));
    const moverId = await moverOf(db, workspace.id);
    if (moverId !== undefined) {
      await this.#record('instance.lost', verdict, moverId);
      await this.#interruptIfCandidate(moverId, verdict.instanceId);
      return;
    }
    await startFailover(this.#parts, {
      workspaceId: workspace.id,
      data: {
        trigger: 'detector',
        reason: verdict.evidence.map(({ kind }) => kind).join(', '),
        evidence: [...verdict.evidence],
        fromInstanceId: verdict.instanceId,
        silenceBeganAtMs: Math.round(verdict.lastBeatAtMs),
        confirmedAtMs: Math.round(verdict.lastBeatAtMs + verdict.silenceMs),
        detectMs: verdict.silenceMs,
      },
    });
    this.#runner.nudge();
  }

  async #commit(verdict: Verdict): Promise<void> {
    const { db } = this.#parts;
    const instance = await findInstance(db, verdict.instanceId);
    if (instance === undefined) return;
    const moverId = (await moverOf(db, instance.workspaceId)) ?? null;
    const { workspaceId, id: instanceId } = instance;
    await fence(this.#parts, { workspaceId, instanceId, operationId: moverId });
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
    try {
      await this.#runner.interrupt(operationId, 'attemptFailed');
    } catch (error) {
      if (!isDumontError(error, 'NOT_FOUND')) throw error;
    }
  }

  async #record(type: string, verdict: Verdict, operationId: OperationId | null): Promise<void> {
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
