import { z } from 'zod';
import type { FailoverEvent, FailoverState } from '@dumont/shared/model/failover.ts';
import { FAILOVER_TABLE, isFailoverOver } from '@dumont/shared/model/failover.ts';
import { instanceIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { applyInstanceEvent } from '../store/instances.ts';
import { findTakeover } from '../store/takeovers.ts';
import { findWorkspace, setEndpoint } from '../store/workspaces.ts';
import { commitStep } from './failover-commit.ts';
import { harvestFenced } from './harvest.ts';
import { moveDataSchema } from './move-data.ts';
import {
  moveFailure,
  provisionStep,
  readyReplacement,
  releaseAll,
  restoreStep,
  resumeStep,
  searchStep,
} from './move-steps.ts';
import type { OperationKind, StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

const standbyLagSchema = z.object({ bytes: z.number(), ms: z.number(), atMs: z.number() });

export const failoverDataSchema = moveDataSchema.extend({
  trigger: z.enum(['detector', 'operator', 'preempted', 'standby', 'unserved']),
  reason: z.string(),
  evidence: z
    .array(z.object({ kind: z.string(), hard: z.boolean(), atMs: z.int(), detail: z.string().optional() }))
    .default([]),
  /** The primary that was lost; null when the workspace had none. */
  fromInstanceId: instanceIdSchema.nullable(),
  /** Last sign of life of the old primary, wall ms. */
  silenceBeganAtMs: z.int(),
  confirmedAtMs: z.int(),
  /** Silence begins → confirmed, by the monotonic clock. */
  detectMs: z.number(),
  /** Epoch of the replacement, once it was promoted. */
  epoch: z.int().nullable().default(null),
  /** When the replacement was made primary, wall ms. */
  committedAtMs: z.int().nullable().default(null),
  /** The machine whose last snapshot of an orderly hand-over was taken: the old primary, or the standby after it. */
  handedOverId: instanceIdSchema.nullable().default(null),
  /** When that machine, its workload stopped, had everything in snapshots; null when it never said so. */
  savedAtMs: z.int().nullable().default(null),
  /** What the old primary's last beats said of its standby when its loss was confirmed; null when they said nothing. */
  standbyLag: standbyLagSchema.nullable().default(null),
  /** Restores that brought the replacement nearer to a standby that serves. */
  nearRounds: z.int().default(0),
  /** When the work on the standby was stopped for the way back, wall ms; null while it goes on. */
  pausedAtMs: z.int().nullable().default(null),
});
export type FailoverData = z.infer<typeof failoverDataSchema>;

export type FailoverContext = StepContext<FailoverData>;
export type FailoverResult = Promise<StepResult<FailoverEvent, FailoverData>>;

/** The move of a workspace whose primary was lost, or whose operator wants another machine. States: FAILOVER.md. */
export function failoverKind(
  parts: OperationParts,
): OperationKind<FailoverState, FailoverEvent, FailoverData, 'completed' | 'averted' | 'failed'> {
  return {
    kind: 'failover',
    table: FAILOVER_TABLE,
    dataSchema: failoverDataSchema,
    isOver: isFailoverOver,
    steps: {
      searching: (context) => searchStep(parts, context),
      provisioning: (context) => provisionStep(parts, context),
      restoring: (context) => restoreStep(parts, context),
      committing: (context) => commitStep(parts, context),
      resuming: (context) => resumeStep(parts, context),
      switching: (context) => switchStep(parts, context),
      releasing: (context) => releaseStep(parts, context),
      averting: (context) => giveBackStep(parts, context, 'the old primary serves on'),
      failing: (context) => giveBackStep(parts, context, 'the failover gave up'),
    },
    onFailure: (error, data) => moveFailure(error, data, parts.limits.retryPauseMs),
    // A primary that is back may only stop the failover while it still holds the lease.
    acceptsInterrupt: async (tx, { workspaceId, data, event }) => {
      if (event !== 'refuted') return true;
      const workspace = await findWorkspace(tx, workspaceId);
      return workspace !== undefined && workspace.primaryInstanceId === data.fromInstanceId;
    },
  };
}

async function switchStep(parts: OperationParts, { workspaceId, data }: FailoverContext): FailoverResult {
  const instanceId = readyReplacement(data);
  await setEndpoint(parts.db, workspaceId, instanceId);
  return { event: 'switched', data, detail: { endpointInstanceId: instanceId } };
}

async function releaseStep(parts: OperationParts, context: FailoverContext): FailoverResult {
  const { data, workspaceId, operationId, signal } = context;
  const { fromInstanceId, handedOverId } = data;
  const keep = readyReplacement(data);
  // After an orderly hand-over it holds nothing that is not in the head.
  const harvest =
    fromInstanceId === null || handedOverId === fromInstanceId
      ? null
      : await harvestFenced(parts, { workspaceId, operationId, signal }, { instanceId: fromInstanceId, keep });
  const takeover = await findTakeover(parts.db, { workspaceId, operationId, fromInstanceId });
  const left = [fromInstanceId, takeover?.standbyId ?? null];
  const detail = await releaseAll(parts, context, {
    keep,
    also: left.filter((instanceId) => instanceId !== null),
    reason: 'replaced by a failover',
  });
  return { event: 'released', data, detail: { ...detail, ...(harvest !== null && { harvest }) } };
}

async function giveBackStep(parts: OperationParts, context: FailoverContext, reason: string): FailoverResult {
  const { data } = context;
  const workspace = await findWorkspace(parts.db, context.workspaceId);
  const { fromInstanceId } = data;
  const isStillPrimary = fromInstanceId !== null && workspace?.primaryInstanceId === fromInstanceId;
  // What the detector says now: a machine that came back may be lost again by the time this step runs.
  if (isStillPrimary && parts.wardship.isAlive(fromInstanceId)) {
    await applyInstanceEvent(parts.db, fromInstanceId, 'returned', parts.clock.nowMs());
  }
  // A failover that gave up after the fence may hold a promoted machine: it keeps what the workspace still has.
  const detail = await releaseAll(parts, context, {
    keep: workspace?.primaryInstanceId ?? undefined,
    also: [],
    reason,
  });
  return { event: 'released', data, detail };
}
