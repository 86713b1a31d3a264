import type { z } from 'zod';
import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { TransitionTable } from '@dumont/shared/model/transition.ts';
import type { DumontError } from '@dumont/shared/util/errors.ts';
import type { Queryable } from '../store/database.ts';
import type { OperationKindName } from '../store/operations.ts';

export interface StepContext<Data> {
  readonly operationId: OperationId;
  readonly workspaceId: WorkspaceId;
  readonly data: Data;
  readonly createdAtMs: number;
  readonly signal: AbortSignal;
  save(data: Data): Promise<void>;
}

export interface StepResult<Event extends string, Data> {
  readonly event: Event;
  readonly data: Data;
  readonly detail?: Readonly<Record<string, unknown>>;
  readonly retryAfterMs?: number;
  readonly error?: string;
}

export type Step<Event extends string, Data> = (context: StepContext<Data>) => Promise<StepResult<Event, Data>>;

export interface OperationKind<State extends string, Over extends State, Event extends string, Data> {
  readonly kind: OperationKindName;
  readonly table: TransitionTable<State, Event>;
  readonly dataSchema: z.ZodType<Data>;
  readonly isOver: (state: State) => boolean;
  readonly steps: Readonly<Record<Exclude<State, Over>, Step<Event, Data>>>;
  readonly onFailure: (error: DumontError, data: Data) => StepResult<Event, Data>;
  readonly acceptsInterrupt?: (
    tx: Queryable,
    workspaceId: WorkspaceId,
    data: Data,
    interrupt: { readonly state: State; readonly event: Event },
  ) => Promise<boolean>;
}
