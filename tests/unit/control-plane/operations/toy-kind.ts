import { z } from 'zod';
import type { AnyKind, OperationKind, Step } from '@dumont/control-plane/operations/operation-kind.ts';
import { anyKind } from '@dumont/control-plane/operations/operation-kind.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { insertOperation } from '@dumont/control-plane/store/operations.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { TransitionTable } from '@dumont/shared/model/transition.ts';
import { someWorkspace } from '../../../world/rows.ts';

export type ToyState = 'first' | 'second' | 'third' | 'done' | 'undoing' | 'undone';
export type ToyEvent = 'advanced' | 'repeat' | 'cancelled' | 'failed';
export interface ToyData {
  readonly trail: readonly string[];
  readonly reason?: string | undefined;
}
export type ToyStep = Step<ToyEvent, ToyData>;

const STAY = { advanced: 'stay', repeat: 'stay', cancelled: 'stay', failed: 'stay' } as const;

const TOY_TABLE: TransitionTable<ToyState, ToyEvent> = {
  first: { ...STAY, advanced: 'second', repeat: 'first', cancelled: 'undoing', failed: 'undoing' },
  second: { ...STAY, advanced: 'third', cancelled: 'undoing', failed: 'undoing' },
  third: { ...STAY, advanced: 'done' },
  done: STAY,
  undoing: { ...STAY, advanced: 'undone' },
  undone: STAY,
};

/** The step that leaves its name in the data and goes on. */
export function walk(name: string): ToyStep {
  return (context) =>
    Promise.resolve({ event: 'advanced', data: { ...context.data, trail: [...context.data.trail, name] } });
}

/** Three steps in a row, and a way back out of the first two. Steps and the interrupt's judge can be replaced. */
export function toyKind(
  steps: Partial<Record<'first' | 'second' | 'third' | 'undoing', ToyStep>> = {},
  acceptsInterrupt?: OperationKind<ToyState, ToyEvent, ToyData, 'done' | 'undone'>['acceptsInterrupt'],
): AnyKind {
  const kind: OperationKind<ToyState, ToyEvent, ToyData, 'done' | 'undone'> = {
    kind: 'release',
    table: TOY_TABLE,
    dataSchema: z.object({ trail: z.array(z.string()), reason: z.string().optional() }),
    isOver: (state) => state === 'done' || state === 'undone',
    steps: {
      first: walk('first'),
      second: walk('second'),
      third: walk('third'),
      undoing: walk('undoing'),
      ...steps,
    },
    onFailure: (error, data) => ({ event: 'failed', data, error: `gave up: ${error.message}` }),
    ...(acceptsInterrupt === undefined ? {} : { acceptsInterrupt }),
  };
  return anyKind(kind);
}

/** Writes down a toy operation on a workspace of its own. */
export async function insertToy(db: Database, atMs: number): Promise<OperationId> {
  const id = newId('operation');
  const workspaceId = await someWorkspace(db);
  await insertOperation(db, { id, kind: 'release', workspaceId, state: 'first', data: { trail: [] }, atMs });
  return id;
}

/** The outside world: one row for each effect, however often it is asked for; `times` counts the asking. */
export async function createEffects(db: Database): Promise<void> {
  await db.query('create table effects (key text primary key, times integer not null, by text not null)');
}

export async function effect(db: Database, key: string, by: string): Promise<void> {
  await db.query(
    'insert into effects (key, times, by) values ($1, 1, $2) on conflict (key) do update set times = effects.times + 1',
    [key, by],
  );
}
