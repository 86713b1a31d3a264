import { z } from 'zod';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { instanceIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { integer, json, text, textOrNull } from './columns.ts';
import type { Queryable } from './database.ts';

/** A standby that was made primary in place of a lost machine; read from the history. */
export interface TakeoverRow {
  readonly standbyId: InstanceId;
  readonly operationId: OperationId | null;
  readonly atMs: number;
  readonly epoch: number;
  /** How far its copy was behind when the lost machine was last heard, ms. */
  readonly behindMs: number;
}

/** Data of `workspace.on-standby`; the event's machine is the standby. */
export const takeoverDataSchema = z.object({ from: instanceIdSchema, epoch: z.int(), behindMs: z.number() });

/** Data of `workspace.back`; the event's machine is the one that is primary from then on. */
export const returnDataSchema = z.object({
  from: instanceIdSchema,
  epoch: z.int(),
  /** False when the standby was lost before it could hand over. */
  handedOver: z.boolean(),
  servedMs: z.number(),
  pauseMs: z.number().nullable(),
});
export type ReturnData = z.infer<typeof returnDataSchema>;

/** The takeover that happened during an operation, or that left users on the machine it moves them from. */
export async function findTakeover(
  db: Queryable,
  during: {
    readonly workspaceId: WorkspaceId;
    readonly operationId: OperationId;
    readonly fromInstanceId: InstanceId | null;
  },
): Promise<TakeoverRow | undefined> {
  const [row] = await db.query(
    `select at, instance_id, operation_id, data from events
     where workspace_id = $1 and type = 'workspace.on-standby' and (operation_id = $2 or instance_id = $3)
     order by id desc limit 1`,
    [during.workspaceId, during.operationId, during.fromInstanceId],
  );
  if (row === undefined) return undefined;
  const { epoch, behindMs } = takeoverDataSchema.parse(json(row, 'data'));
  const operationId = textOrNull(row, 'operation_id') as OperationId | null;
  return { standbyId: text(row, 'instance_id') as InstanceId, operationId, atMs: integer(row, 'at'), epoch, behindMs };
}

/** How users came back from that standby; undefined while they did not. */
export async function findReturn(
  db: Queryable,
  workspaceId: WorkspaceId,
  standbyId: InstanceId,
): Promise<ReturnData | undefined> {
  const [row] = await db.query(
    `select data from events where workspace_id = $1 and type = 'workspace.back' and data ->> 'from' = $2
     order by id desc limit 1`,
    [workspaceId, standbyId],
  );
  return row === undefined ? undefined : returnDataSchema.parse(json(row, 'data'));
}

/** The standby that an operation found and did not use, and why. */
export async function findUnusedStandby(
  db: Queryable,
  workspaceId: WorkspaceId,
  operationId: OperationId,
): Promise<{ readonly standbyId: InstanceId; readonly reason: string } | undefined> {
  const [row] = await db.query(
    `select instance_id, data from events
     where workspace_id = $1 and type = 'standby.not-used' and operation_id = $2 order by id desc limit 1`,
    [workspaceId, operationId],
  );
  if (row === undefined) return undefined;
  const { reason } = z.object({ reason: z.string() }).parse(json(row, 'data'));
  return { standbyId: text(row, 'instance_id') as InstanceId, reason };
}
