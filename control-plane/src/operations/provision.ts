import type { ProvisionEvent, ProvisionState } from '@dumont/shared/model/provision.ts';
import { PROVISION_TABLE } from '@dumont/shared/model/provision.ts';
import { findWorkspace, promotePrimary, setEndpoint } from '../store/workspaces.ts';
import { fence } from './fence.ts';
import type { MoveData } from './move-data.ts';
import { moveDataSchema } from './move-data.ts';
import {
  moveFailure,
  provisionStep,
  readyReplacement,
  releaseAll,
  restoreStep,
  resumeStep,
  searchStep,
  workspaceOf,
} from './move-steps.ts';
import type { OperationKind, StepContext, StepResult } from './operation-kind.ts';
import type { OperationParts } from './operation-parts.ts';

type Context = StepContext<MoveData>;
type Result = Promise<StepResult<ProvisionEvent, MoveData>>;

/** Puts a new workspace on its first machine. */
export function provisionKind(
  parts: OperationParts,
): OperationKind<ProvisionState, ProvisionEvent, MoveData, 'completed' | 'failed'> {
  return {
    kind: 'provision',
    table: PROVISION_TABLE,
    dataSchema: moveDataSchema,
    isOver: (state) => state === 'completed' || state === 'failed',
    steps: {
      searching: (context) => searchStep(parts, context),
      provisioning: (context) => provisionStep(parts, context),
      restoring: (context) => restoreStep(parts, context),
      promoting: (context) => promoteStep(parts, context),
      resuming: (context) => resumeStep(parts, context),
      switching: (context) => switchStep(parts, context),
      failing: (context) => failStep(parts, context),
    },
    onFailure: (error, data) => moveFailure(error, data, parts.limits.retryPauseMs),
  };
}

async function promoteStep(parts: OperationParts, { data, workspaceId, operationId }: Context): Result {
  const instanceId = readyReplacement(data);
  const workspace = await workspaceOf(parts, workspaceId);
  const { primaryInstanceId } = workspace;
  // An earlier attempt of this operation may have been promoted before it failed.
  if (primaryInstanceId !== null && primaryInstanceId !== instanceId) {
    await fence(parts, { workspaceId, instanceId: primaryInstanceId, operationId });
  }
  const { epoch } = await workspaceOf(parts, workspaceId);
  const firstEpoch = Math.max(epoch, 1);
  const promoted = await parts.db.transaction(async (tx) => {
    // Epoch 0 means "never had a primary": the first one holds epoch 1.
    await tx.query('update workspaces set epoch = $2 where id = $1 and epoch = 0', [workspaceId, firstEpoch]);
    return promotePrimary(tx, workspaceId, instanceId, firstEpoch);
  });
  if (promoted === undefined) return { event: 'attemptFailed', data, detail: { error: 'the epoch moved on' } };
  parts.changed.ring();
  parts.wardship.watch(instanceId, promoted.policy.detectMode);
  await parts.wardship.inform(instanceId);
  return { event: 'promoted', data, detail: { instanceId, epoch: promoted.epoch } };
}

async function switchStep(parts: OperationParts, context: Context): Result {
  const instanceId = readyReplacement(context.data);
  await setEndpoint(parts.db, context.workspaceId, instanceId);
  const detail = await releaseAll(parts, context, { keep: instanceId, also: [], reason: 'not needed any more' });
  return { event: 'switched', data: context.data, detail: { endpointInstanceId: instanceId, ...detail } };
}

async function failStep(parts: OperationParts, context: Context): Result {
  const workspace = await findWorkspace(parts.db, context.workspaceId);
  if (workspace?.primaryInstanceId !== undefined && workspace.primaryInstanceId !== null) {
    const { id: workspaceId, primaryInstanceId: instanceId } = workspace;
    await fence(parts, { workspaceId, instanceId, operationId: context.operationId });
  }
  const detail = await releaseAll(parts, context, { keep: undefined, also: [], reason: 'the provisioning gave up' });
  return { event: 'released', data: context.data, detail };
}
