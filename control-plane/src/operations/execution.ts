import type { Logger } from '@dumont/shared/node/logger.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { assert, must } from '@dumont/shared/util/assert.ts';
import type { BackoffPolicy } from '@dumont/shared/util/backoff.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { describeIssues } from '@dumont/shared/util/zod-issues.ts';
import type { Database, Queryable } from '../store/database.ts';
import type { OperationRow } from '../store/operations.ts';
import { saveProgress, yieldOperation } from '../store/operations.ts';
import { startStep } from '../store/steps.ts';
import { Lease } from './lease.ts';
import type { AnyKind, AnyStepResult, StepContext } from './operation-kind.ts';
import type { OpenStep, Transition } from './transition-record.ts';
import { recordTransition } from './transition-record.ts';

/** Runs of a step that fails with a retryable error before its kind decides what the failure means. */
const MAX_STEP_ATTEMPTS = 5;
const STEP_BACKOFF: BackoffPolicy = { baseMs: 200, capMs: 5_000 };
/** A step that answers `stay` at once must not spin. */
const MIN_STAY_MS = 100;
/** The same for one that fails and leaves its state as it is: something outside has to change first. */
const FAILED_STAY_MS = 5_000;
/** Pause after the database failed us. */
const DATABASE_RETRY_MS = 1_000;
/** Pause after something that only a repair changes: unreadable data, a state of another version, a defect. */
const DEFECT_RETRY_MS = 30_000;
/** Interrupts that wait at once; callers are the detector and the API, one each is usual. */
const MAX_PENDING_INTERRUPTS = 16;

export interface ExecutionOptions {
  readonly db: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly owner: string;
  readonly leaseMs: number;
  /** After each commit. */
  readonly onProgress: () => void;
}

export interface ClaimedOperation {
  readonly row: OperationRow;
  readonly kind: AnyKind;
  readonly claimedMonotonicMs: number;
}

interface PendingInterrupt {
  readonly event: string;
  readonly dataPatch: object;
  readonly settle: (applied: boolean) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * Runs one claimed operation, step by step, until it is over, given back or lost. Each transition is one transaction,
 * conditional on our lease and on the state it leaves, so whatever else happens nothing is recorded twice.
 */
export class Execution {
  readonly #options: ExecutionOptions;
  readonly #kind: AnyKind;
  readonly #row: OperationRow;
  readonly #workspaceId: WorkspaceId;
  readonly #claimedMonotonicMs: number;
  readonly #log: Logger;
  #state: string;
  #data: object;
  #step: OpenStep | undefined;
  /** Of the step or pause that runs now. */
  #control: AbortController | undefined;
  #resumeAtMonotonicMs = 0;
  #failures = 0;
  #isStopping = false;
  #isLost = false;
  #isClosed = false;
  readonly #interrupts: PendingInterrupt[] = [];

  constructor(operation: ClaimedOperation, options: ExecutionOptions) {
    this.#options = options;
    this.#kind = operation.kind;
    this.#row = operation.row;
    this.#claimedMonotonicMs = operation.claimedMonotonicMs;
    this.#state = operation.row.state;
    this.#data = operation.row.data;
    this.#workspaceId = must(operation.row.workspaceId, 'an operation we run has a workspace');
    this.#log = options.log.child({ operationId: operation.row.id, kind: operation.kind.kind });
  }

  /** Never rejects. */
  async run(): Promise<void> {
    const { db, clock, owner, leaseMs } = this.#options;
    using _lease = new Lease({
      db,
      clock,
      owner,
      leaseMs,
      operationId: this.#row.id,
      claimedMonotonicMs: this.#claimedMonotonicMs,
      onLost: (reason) => this.#lose(reason),
    });
    try {
      await this.#enter();
      await this.#advance();
    } catch (error) {
      await this.#giveWay(error);
    } finally {
      this.#isClosed = true;
      for (const interrupt of this.#interrupts.splice(0)) interrupt.settle(false);
    }
  }

  /** Ends in good order: the step is aborted, its result, if it still gives one, is kept, and the operation given back. */
  stop(): void {
    this.#isStopping = true;
    this.#control?.abort(new DOMException('the process is shutting down', 'AbortError'));
  }

  /** See {@link OperationRunner.interrupt}. */
  interrupt(event: string, dataPatch: object): Promise<boolean> {
    const isDeaf = this.#isClosed || this.#isLost || this.#interrupts.length >= MAX_PENDING_INTERRUPTS;
    // Between steps the state is about to change: then the event waits for the next one to be judged by.
    if (isDeaf || (this.#control !== undefined && !this.#moves(event))) return Promise.resolve(false);
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#interrupts.push({ event, dataPatch, settle: resolve, fail: reject });
    this.#control?.abort(new DOMException(`interrupted by ${event}`, 'AbortError'));
    return promise;
  }

  /** Reads the data and opens the state's step row, or finds the one a predecessor left open. */
  async #enter(): Promise<void> {
    const { db, clock } = this.#options;
    const { id } = this.#row;
    const parsed = this.#kind.dataSchema.safeParse(this.#row.data);
    if (!parsed.success) {
      throw new DumontError('CORRUPT', `data of operation ${id}: ${describeIssues(parsed.error).summary}`);
    }
    this.#data = parsed.data;
    const atMs = clock.nowMs();
    const monotonicMs = clock.monotonicMs();
    const step = await db.transaction(async (tx) => {
      const isOurs = await saveProgress(tx, id, this.#unchangedState(this.#data, atMs));
      return isOurs ? startStep(tx, id, this.#state, atMs) : undefined;
    });
    if (step === undefined) this.#lose('another process took the operation over');
    else this.#step = { ...step, startedMonotonicMs: step.isNew ? monotonicMs : undefined };
  }

  async #advance(): Promise<void> {
    while (!this.#isLost) {
      const result = await this.#runStep();
      if (this.#isLost) return;
      const isInterrupted = await this.#applyInterrupts(result);
      if (!isInterrupted && result !== undefined) await this.#apply(result);
      if (this.#isLost || this.#kind.isOver(this.#state)) return;
      const waitMs = Math.max(0, this.#resumeAtMonotonicMs - this.#options.clock.monotonicMs());
      // A wait longer than the lease is left to whoever is free then; a shorter one keeps the operation here.
      if (this.#isStopping || waitMs > this.#options.leaseMs) {
        await this.#yield(waitMs);
        return;
      }
    }
  }

  /** What the step answers, or what its failure becomes; undefined when it was aborted or is to be repeated. */
  async #runStep(): Promise<AnyStepResult | undefined> {
    if (this.#isStopping || this.#interrupts.length > 0) return undefined;
    const { clock } = this.#options;
    const control = new AbortController();
    this.#control = control;
    try {
      const waitMs = this.#resumeAtMonotonicMs - clock.monotonicMs();
      if (waitMs > 0) await clock.sleep(waitMs, control.signal);
      const step = must(this.#kind.steps[this.#state], `${this.#kind.kind} has a step for ${this.#state}`);
      const result = await step(this.#stepContext(control));
      this.#failures = 0;
      return result;
    } catch (error) {
      if (control.signal.aborted) return undefined;
      return this.#failed(toDumontError(error, 'INTERNAL', `step ${this.#state}`));
    } finally {
      this.#control = undefined;
    }
  }

  #stepContext(control: AbortController): StepContext<object> {
    return {
      operationId: this.#row.id,
      workspaceId: this.#workspaceId,
      data: this.#data,
      createdAtMs: this.#row.createdAtMs,
      signal: control.signal,
      save: async (data) => {
        const change = this.#unchangedState(data, this.#options.clock.nowMs());
        const isOpen = this.#control === control && !this.#isLost;
        if (!isOpen || !(await saveProgress(this.#options.db, this.#row.id, change))) {
          if (isOpen) this.#lose('another process took the operation over');
          throw new DumontError('ABORTED', `operation ${this.#row.id} is no longer in this step's hands`);
        }
        this.#data = data;
      },
    };
  }

  #failed(error: DumontError): AnyStepResult | undefined {
    const { clock, random } = this.#options;
    this.#failures += 1;
    const fields = { step: this.#state, attempt: this.#failures, err: error };
    if (error.retryable && this.#failures < MAX_STEP_ATTEMPTS) {
      this.#log.warn({ event: 'operation.step-retried', ...fields }, 'step failed, will be repeated');
      this.#resumeAtMonotonicMs = clock.monotonicMs() + backoffMs(this.#failures - 1, STEP_BACKOFF, random);
      return undefined;
    }
    this.#log.error({ event: 'operation.step-failed', ...fields }, 'step failed');
    this.#failures = 0;
    const result = this.#kind.onFailure(error, this.#data);
    const leastWaitMs = this.#moves(result.event) ? 0 : FAILED_STAY_MS;
    return { error: error.message, ...result, retryAfterMs: Math.max(result.retryAfterMs ?? 0, leastWaitMs) };
  }

  async #apply(result: AnyStepResult): Promise<void> {
    const { db, clock } = this.#options;
    const cell = this.#cell(result.event);
    assert(cell !== undefined, `${this.#kind.kind} has no event ${result.event}`);
    if (cell !== 'stay') {
      await this.#transition(result, cell, (record) => db.transaction(record));
      return;
    }
    const waitMs = Math.max(result.retryAfterMs ?? 0, MIN_STAY_MS);
    const atMs = clock.nowMs();
    const isOurs = await saveProgress(db, this.#row.id, {
      ...this.#unchangedState(result.data, atMs),
      error: result.error ?? null,
      runAtMs: Math.ceil(atMs + waitMs),
    });
    if (!isOurs) {
      this.#lose('another process took the operation over');
      return;
    }
    this.#data = result.data;
    this.#resumeAtMonotonicMs = clock.monotonicMs() + waitMs;
  }

  /** Judges what waits, in order of arrival, until one acts. @returns true when one did: the step's result is not applied */
  async #applyInterrupts(result: AnyStepResult | undefined): Promise<boolean> {
    for (let next = this.#interrupts.shift(); next !== undefined; next = this.#interrupts.shift()) {
      try {
        const isApplied = await this.#applyInterrupt(next, result);
        next.settle(isApplied);
        if (isApplied) return true;
      } catch (error) {
        next.fail(error);
        throw error;
      }
    }
    return false;
  }

  async #applyInterrupt(interrupt: PendingInterrupt, result: AnyStepResult | undefined): Promise<boolean> {
    const { event } = interrupt;
    const cell = this.#cell(event);
    if (this.#isLost || cell === undefined || cell === 'stay') return false;
    // What the step learned before it was stopped is kept: it may name machines that were rented meanwhile.
    const merged = { ...(result?.data ?? this.#data), ...interrupt.dataPatch };
    const parsed = this.#kind.dataSchema.safeParse(merged);
    if (!parsed.success) {
      const { summary, field } = describeIssues(parsed.error);
      interrupt.fail(new DumontError('USAGE', `the interrupt ${event} breaks the data: ${summary}`, { field }));
      return false;
    }
    const data = parsed.data;
    const detail = { ...result?.detail, isInterrupt: true };
    const context = { workspaceId: this.#workspaceId, data, state: this.#state, event };
    return this.#transition({ event, data, detail }, cell, (record) =>
      this.#options.db.transaction(async (tx) => {
        const isAccepted = (await this.#kind.acceptsInterrupt?.(tx, context)) ?? true;
        return isAccepted ? record(tx) : 'declined';
      }),
    );
  }

  /** @returns whether the transition was written */
  async #transition(result: AnyStepResult, to: string, commit: Commit): Promise<boolean> {
    const { clock, owner } = this.#options;
    const atMs = clock.nowMs();
    const monotonicMs = clock.monotonicMs();
    const waitMs = result.retryAfterMs ?? 0;
    const transition: Transition = {
      operationId: this.#row.id,
      workspaceId: this.#workspaceId,
      kind: this.#kind.kind,
      owner,
      from: this.#state,
      to,
      event: result.event,
      data: result.data,
      detail: result.detail ?? {},
      error: result.error ?? null,
      isOver: this.#kind.isOver(to),
      step: must(this.#step, 'the state has an open step'),
      atMs,
      monotonicMs,
      runAtMs: Math.ceil(atMs + waitMs),
    };
    const outcome = await commit((tx) => recordTransition(tx, transition));
    if (outcome === 'declined') return false;
    if (outcome === 'lost') {
      this.#lose('another process took the operation over');
      return false;
    }
    this.#state = to;
    this.#data = result.data;
    this.#step = outcome;
    this.#failures = 0;
    this.#resumeAtMonotonicMs = monotonicMs + waitMs;
    const { from, event, error } = transition;
    this.#log.info({ event: 'operation.step', from, to, by: event, error }, 'operation moved on');
    this.#options.onProgress();
    return true;
  }

  /** The database refused or our own code failed: nothing more is written, and the true state is read at the next claim. */
  async #giveWay(error: unknown): Promise<void> {
    if (this.#isLost) return;
    const failure = toDumontError(error);
    this.#log.error(
      { event: 'operation.given-way', state: this.#state, err: failure },
      'operation interrupted by an error',
    );
    try {
      await this.#yield(failure.retryable ? DATABASE_RETRY_MS : DEFECT_RETRY_MS);
    } catch (yieldError) {
      // The lease lapses by itself.
      this.#log.warn({ event: 'operation.not-given-back', err: yieldError }, 'operation could not be given back');
    }
  }

  async #yield(waitMs: number): Promise<void> {
    const { db, clock, owner } = this.#options;
    await yieldOperation(db, this.#row.id, { owner, runAtMs: Math.ceil(clock.nowMs() + waitMs) });
  }

  #lose(reason: string): void {
    if (this.#isLost) return;
    this.#isLost = true;
    this.#log.warn({ event: 'operation.lost', state: this.#state, reason }, 'operation is no longer ours');
    this.#control?.abort(new DumontError('ABORTED', reason));
  }

  #cell(event: string): string | undefined {
    return this.#kind.table[this.#state]?.[event];
  }

  /** Whether the event makes the operation leave its state, for itself or another. */
  #moves(event: string): boolean {
    const cell = this.#cell(event);
    return cell !== undefined && cell !== 'stay';
  }

  #unchangedState(data: object, atMs: number) {
    return {
      owner: this.#options.owner,
      fromState: this.#state,
      state: this.#state,
      data: data as Readonly<Record<string, unknown>>,
      atMs,
      finished: false,
      error: null,
      runAtMs: null,
    };
  }
}

type Recorded = Awaited<ReturnType<typeof recordTransition>>;
/** Runs the recording in a transaction, unless it declines. */
type Commit = (record: (tx: Queryable) => Promise<Recorded>) => Promise<Recorded | 'declined'>;
