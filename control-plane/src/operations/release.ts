import { z } from 'zod';
import { newId } from '@dumont/shared/model/ids.ts';
import type { ReleaseEvent, ReleaseState } from '@dumont/shared/model/release.ts';
import { RELEASE_TABLE } from '@dumont/shared/model/release.ts';
import { instanceIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { setEndpoint } from '../store/workspaces.ts';
import { fence } from './fence.ts';
import { harvestFenced } from './harvest.ts';
import { waitGone, workspaceOf } from './move-steps.ts';
import { runOnMachine } from './on-machine.ts';
import type { OperationKind, StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';
import { restartWorkload } from './restart-workload.ts';
import { stopTimeoutMs } from './workload-limits.ts';

export const releaseDataSchema = z.object({
  instanceId: instanceIdSchema,
  snapshotFirst: z.boolean(),
  /** All it held is in the head. */
  isSaved: z.boolean().default(false),
});
type ReleaseData = z.infer<typeof releaseDataSchema>;

type Context = StepContext<ReleaseData>;
type Result = Promise<StepResult<ReleaseEvent, ReleaseData>>;

/** Stops one machine on purpose. A primary that cannot publish its last state keeps running: nothing is lost by a stop. */
export function releaseKind(
  parts: OperationParts,
): OperationKind<ReleaseState, ReleaseEvent, ReleaseData, 'completed' | 'failed'> {
  return {
    kind: 'release',
    table: RELEASE_TABLE,
    dataSchema: releaseDataSchema,
    isOver: (state) => state === 'completed' || state === 'failed',
    steps: {
      saving: (context) => saveStep(parts, context),
      detaching: (context) => detachStep(parts, context),
      releasing: (context) => releaseStep(parts, context),
    },
    onFailure: (error, data) => ({ event: 'saveFailed', data, error: error.message }),
  };
}

async function saveStep(parts: OperationParts, context: Context): Result {
  const { data, workspaceId, signal } = context;
  const { primaryInstanceId, policy } = await workspaceOf(parts, workspaceId);
  if (primaryInstanceId !== data.instanceId || !data.snapshotFirst) {
    return { event: 'saved', data, detail: { snapshot: 'not wanted' } };
  }
  const { limits } = parts;
  try {
    await runOnMachine(
      parts,
      data.instanceId,
      { name: 'stop-workload', graceMs: limits.workloadGraceMs },
      { commandId: newId('command'), timeoutMs: stopTimeoutMs(limits, policy.workload), signal },
    );
    const { record } = await runOnMachine(
      parts,
      data.instanceId,
      { name: 'snapshot' },
      { commandId: newId('command'), timeoutMs: limits.finalSnapshotTimeoutMs, signal },
    );
    return { event: 'saved', data: { ...data, isSaved: true }, detail: { snapshotId: record?.snapshotId ?? null } };
  } catch (error) {
    if (signal.aborted) throw error;
    const { message } = toDumontError(error);
    // The machine is kept, so its work goes on; where even that fails, the report of the failed stop is what counts.
    const notStarted = await restartWorkload(parts, { workspaceId, instanceId: data.instanceId, signal });
    if (notStarted !== null) {
      const { instanceId } = data;
      parts.log.warn({ event: 'release.not-resumed', instanceId, reason: notStarted }, 'workload not started again');
    }
    return {
      event: 'saveFailed',
      data,
      error: `no last snapshot could be taken, so the machine was kept: ${message}. To destroy it all the same, stop it without a snapshot.`,
    };
  }
}

async function detachStep(parts: OperationParts, { data, workspaceId, operationId }: Context): Result {
  await fence(parts, { workspaceId, instanceId: data.instanceId, operationId });
  const workspace = await workspaceOf(parts, workspaceId);
  // Nobody serves it on purpose: a workspace that still points at a machine is given another.
  const isStopped = workspace.primaryInstanceId === null;
  if (isStopped || workspace.endpointInstanceId === data.instanceId) await setEndpoint(parts.db, workspaceId, null);
  return { event: 'detached', data };
}

async function releaseStep(parts: OperationParts, context: Context): Result {
  const { data, workspaceId, operationId, signal } = context;
  const { instanceId } = data;
  const isLate = data.snapshotFirst && !data.isSaved;
  const harvest = isLate
    ? await harvestFenced(parts, { workspaceId, operationId, signal }, { instanceId, keep: null })
    : null;
  await parts.renterFor(context).release(data.instanceId, 'stopped by an operator');
  const stillReleasing = await waitGone(parts, [data.instanceId], { keep: undefined, signal: context.signal });
  return { event: 'released', data, detail: { stillReleasing, ...(harvest !== null && { harvest }) } };
}
