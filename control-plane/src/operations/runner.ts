import type { Logger } from '@dumont/shared/node/logger.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { Database } from '../store/database.ts';
import type { ClaimOptions, OperationRow } from '../store/operations.ts';
import { claimOperation, claimOperations, findOperation } from '../store/operations.ts';
import { Execution } from './execution.ts';
import type { AnyKind } from './operation-kind.ts';

/** Operations one process works on at once; each is a few outside calls and one lease to renew. */
const MAX_CONCURRENT_OPERATIONS = 64;
/** How long a dead process's operations wait for another; three renewals fit in. */
const DEFAULT_LEASE_MS = 5_000;
/** How soon work written down by another process is noticed; our own is announced by `nudge`. */
const DEFAULT_POLL_MS = 500;

export interface OperationRunnerOptions {
  readonly db: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Names this process and this life of it: another process or a later start must use another name. */
  readonly owner: string;
  /** Each by `anyKind`. */
  readonly kinds: readonly AnyKind[];
  /** After each commit: wake who follows the events. */
  readonly onProgress?: (operationId: OperationId) => void;
  readonly leaseMs?: number;
  readonly pollMs?: number;
}

/**
 * Works on durable operations: claims those that are due and nobody's, runs their steps, and goes on with what a dead
 * process left. Any number of processes may share one database. Steps run at least once, transitions are recorded
 * exactly once.
 */
export class OperationRunner implements AsyncDisposable {
  readonly #options: OperationRunnerOptions;
  readonly #kinds: ReadonlyMap<string, AnyKind>;
  readonly #leaseMs: number;
  readonly #pollMs: number;
  readonly #executions = new Map<OperationId, { readonly execution: Execution; readonly ended: Promise<void> }>();
  readonly #endListeners = new Set<() => void>();
  #endedCount = 0;
  #loop: Promise<void> | undefined;
  #isNudged = false;
  #wake = () => {};
  #isStopping = false;

  constructor(options: OperationRunnerOptions) {
    this.#options = options;
    this.#kinds = new Map(options.kinds.map((kind) => [kind.kind, kind]));
    this.#leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
    this.#pollMs = options.pollMs ?? DEFAULT_POLL_MS;
  }

  /** Begins to claim work; once. */
  start(): void {
    this.#loop ??= this.#claimUntilStopped();
  }

  /** Looks for work now instead of at the next poll. */
  nudge(): void {
    this.#isNudged = true;
    this.#wake();
  }

  /**
   * Applies an event to an operation from outside, in whatever state it is: the current step is aborted, and the event
   * takes the place of its result if the state answers to it and the kind accepts it; else the step goes on or runs
   * again. Best effort: it is not remembered, and an operation in another process's hands is not reached.
   * @param dataPatch merged into the operation's data, top level
   * @returns whether the event was applied, once that is committed
   * @throws {DumontError} USAGE when the patch breaks the data's schema
   */
  async interrupt(operationId: OperationId, event: string, dataPatch: object = {}): Promise<boolean> {
    const running = this.#executions.get(operationId);
    if (running !== undefined) return running.execution.interrupt(event, dataPatch);
    if (this.#isStopping) return false;
    const claimedMonotonicMs = this.#options.clock.monotonicMs();
    const row = await claimOperation(this.#options.db, operationId, this.#claimOptions());
    if (row !== undefined) this.#begin(row, claimedMonotonicMs);
    // Also one that our own loop claimed in the meantime.
    return this.#executions.get(operationId)?.execution.interrupt(event, dataPatch) ?? false;
  }

  /**
   * Resolves with the operation when it is over, whoever ran it.
   * @throws {DumontError} NOT_FOUND; the signal's reason when aborted
   */
  async waitFor(operationId: OperationId, signal: AbortSignal): Promise<OperationRow> {
    for (;;) {
      signal.throwIfAborted();
      const seenCount = this.#endedCount;
      const row = await findOperation(this.#options.db, operationId);
      if (row === undefined) throw new DumontError('NOT_FOUND', `there is no operation ${operationId}`);
      if (row.finishedAtMs !== null) return row;
      await this.#anyEnd(seenCount, signal);
    }
  }

  async #claimUntilStopped(): Promise<void> {
    const { log } = this.#options;
    while (!this.#isStopping) {
      this.#isNudged = false;
      try {
        await this.#claim();
      } catch (error) {
        log.warn({ event: 'operations.not-claimed', err: error }, 'could not look for operations');
      }
      await this.#nudgeOrPoll();
    }
  }

  async #claim(): Promise<void> {
    const { clock, db } = this.#options;
    const limit = MAX_CONCURRENT_OPERATIONS - this.#executions.size;
    if (limit <= 0) return;
    const claimedMonotonicMs = clock.monotonicMs();
    const except = [...this.#executions.keys()];
    const rows = await claimOperations(db, { ...this.#claimOptions(), limit, except });
    for (const row of rows) this.#begin(row, claimedMonotonicMs);
  }

  #claimOptions(): ClaimOptions {
    const { owner, clock } = this.#options;
    return { owner, kinds: [...this.#kinds.keys()], nowMs: clock.nowMs(), leaseMs: this.#leaseMs };
  }

  #begin(row: OperationRow, claimedMonotonicMs: number): void {
    const { db, clock, random, log, owner, onProgress } = this.#options;
    const kind = must(this.#kinds.get(row.kind), 'only known kinds are claimed');
    const execution = new Execution(
      { row, kind, claimedMonotonicMs },
      { db, clock, random, log, owner, leaseMs: this.#leaseMs, onProgress: () => onProgress?.(row.id) },
    );
    if (this.#isStopping) execution.stop();
    const ended = execution.run().then(() => this.#end(row.id));
    this.#executions.set(row.id, { execution, ended });
  }

  #end(operationId: OperationId): void {
    this.#executions.delete(operationId);
    this.#endedCount += 1;
    for (const listener of this.#endListeners) listener();
    this.nudge();
  }

  #nudgeOrPoll(): Promise<void> {
    if (this.#isNudged || this.#isStopping) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(this.#pollMs, () => this.#wake());
      this.#wake = () => {
        this.#wake = () => {};
        cancel();
        resolve();
      };
    });
  }

  /** Resolves when an execution ended since `seenCount`, at the latest at the next poll, or on abort. */
  #anyEnd(seenCount: number, signal: AbortSignal): Promise<void> {
    if (this.#endedCount !== seenCount || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = () => {
        cancel();
        this.#endListeners.delete(finish);
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const cancel = this.#options.clock.after(this.#pollMs, finish);
      this.#endListeners.add(finish);
      signal.addEventListener('abort', finish);
    });
  }

  /** Aborts the steps, waits for them to stop and gives the operations back, so that another process goes on at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    this.#wake();
    for (const { execution } of this.#executions.values()) execution.stop();
    await this.#loop;
    await Promise.all([...this.#executions.values()].map(({ ended }) => ended));
  }
}
