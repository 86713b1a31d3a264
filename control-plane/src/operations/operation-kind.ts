import type { z } from 'zod';
import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { TransitionTable } from '@dumont/shared/model/transition.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import type { DumontError } from '@dumont/shared/util/errors.ts';
import type { Queryable } from '../store/database.ts';
import type { OperationKindName } from '../store/operations.ts';

/** What a step is given. Ids of outside calls derive from `operationId`, so that a repeated step repeats no effect. */
export interface StepContext<Data> {
  readonly operationId: OperationId;
  readonly workspaceId: WorkspaceId;
  readonly data: Data;
  /** Wall time at which the operation was written down. */
  readonly createdAtMs: number;
  /** Aborts on shutdown, on an interrupt and when another process took the operation over: stop at once. */
  readonly signal: AbortSignal;
  /**
   * Saves data in the middle of a step, for example before an outside call, without leaving the state.
   * @throws {DumontError} ABORTED when the operation is no longer ours; nothing was written
   */
  save(data: Data): Promise<void>;
}

export interface StepResult<Event extends string, Data> {
  /** An event whose cell is `stay` runs the step again, its row still open. */
  readonly event: Event;
  readonly data: Data;
  /** Kept with the step's row, for reports. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** Wait before the next step runs; survives a crash. */
  readonly retryAfterMs?: number;
  /** Kept with the operation; the newest stays. */
  readonly error?: string;
}

/** The work of one state. Idempotent: a crash, a shutdown or a declined interrupt runs it again with the saved data. */
export type Step<Event extends string, Data> = (context: StepContext<Data>) => Promise<StepResult<Event, Data>>;

/**
 * A durable process: a total state table and one step for each state in `State` that is not in `Over`. Stateless; what
 * an operation knows is in its data.
 */
export interface OperationKind<State extends string, Event extends string, Data extends object, Over extends State> {
  readonly kind: OperationKindName;
  readonly table: TransitionTable<State, Event>;
  /** Reads the data back from the database. */
  readonly dataSchema: z.ZodType<Data>;
  readonly isOver: (state: State) => boolean;
  readonly steps: Readonly<Record<Exclude<State, Over>, Step<Event, Data>>>;
  /** What the failure of a step becomes, once the runner has repeated a retryable one in place. Pure. */
  readonly onFailure: (error: DumontError, data: Data) => StepResult<Event, Data>;
  /**
   * Decides, in the transaction that would apply it, whether an interrupting event may still act; absent: it always may.
   * May run more than once for one interrupt.
   */
  readonly acceptsInterrupt?: (tx: Queryable, interrupt: InterruptContext<State, Event, Data>) => Promise<boolean>;
}

export interface InterruptContext<State extends string, Event extends string, Data> {
  readonly workspaceId: WorkspaceId;
  readonly data: Data;
  readonly state: State;
  readonly event: Event;
}

/** A kind whose own types are forgotten, so that kinds can stand side by side; made by {@link anyKind}. */
export type AnyKind = OperationKind<string, string, object, never>;
export type AnyStepResult = StepResult<string, object>;

/** Forgets a kind's types, once its states and steps are seen to agree. @throws {AssertionError} when they do not */
export function anyKind<State extends string, Event extends string, Data extends object, Over extends State>(
  kind: OperationKind<State, Event, Data, Over>,
): AnyKind {
  for (const state of Object.keys(kind.table) as State[]) {
    assert(kind.isOver(state) !== state in kind.steps, `${kind.kind}: ${state} needs a step or an end, not both`);
  }
  return kind as unknown as AnyKind;
}
