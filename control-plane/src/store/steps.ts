import type { StepView } from '@dumont/shared/api/views.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { integer, integerOrNull, json, text, textOrNull } from './columns.ts';
import type { Queryable, Row } from './database.ts';

/** Opens a step row after the last one; a row of the same step left open by a crash is continued, not repeated. */
export async function startStep(
  db: Queryable,
  operationId: OperationId,
  step: string,
  atMs: number,
): Promise<{ readonly position: number; readonly startedAtMs: number; readonly isNew: boolean }> {
  const open = await db.query(
    'select position, started_at from operation_steps where operation_id = $1 and step = $2 and ended_at is null',
    [operationId, step],
  );
  if (open[0] !== undefined) {
    return { position: integer(open[0], 'position'), startedAtMs: integer(open[0], 'started_at'), isNew: false };
  }
  const rows = await db.query(
    `insert into operation_steps (operation_id, position, step, started_at)
     values ($1, (select coalesce(max(position), 0) + 1 from operation_steps where operation_id = $1), $2, $3)
     returning position`,
    [operationId, step, atMs],
  );
  return { position: integer(rows[0] as Row, 'position'), startedAtMs: atMs, isNew: true };
}

export async function endStep(
  db: Queryable,
  operationId: OperationId,
  end: {
    readonly position: number;
    readonly atMs: number;
    readonly durationMs: number;
    readonly outcome: string;
    readonly detail: Readonly<Record<string, unknown>>;
  },
): Promise<void> {
  await db.query(
    `update operation_steps set ended_at = $3, duration_ms = $4, outcome = $5, detail = $6
     where operation_id = $1 and position = $2`,
    [operationId, end.position, end.atMs, end.durationMs, end.outcome, JSON.stringify(end.detail)],
  );
}

/** In order. */
export async function listSteps(db: Queryable, operationId: string): Promise<readonly StepView[]> {
  const rows = await db.query('select * from operation_steps where operation_id = $1 order by position', [operationId]);
  return rows.map((row) => ({
    step: text(row, 'step'),
    startedAtMs: integer(row, 'started_at'),
    endedAtMs: integerOrNull(row, 'ended_at'),
    durationMs: integerOrNull(row, 'duration_ms'),
    outcome: textOrNull(row, 'outcome'),
    detail: json(row, 'detail'),
  }));
}
