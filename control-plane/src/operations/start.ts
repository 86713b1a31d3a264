import type { z } from 'zod';
import type { ProvisionBody } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { appendEvent } from '../store/events.ts';
import { applyInstanceEvent, findInstance } from '../store/instances.ts';
import type { OperationKindName } from '../store/operations.ts';
import { ONE_MOVER_INDEX, insertOperation } from '../store/operations.ts';
import { isUniqueViolation } from '../store/serialization.ts';
import { ONE_STANDBY_INDEX } from '../store/standbys.ts';
import { adoptInitialSnapshot } from '../store/snapshots.ts';
import type { Queryable } from '../store/database.ts';
import { findWorkspace, insertWorkspace } from '../store/workspaces.ts';
import { failoverDataSchema } from './failover.ts';
import { moveDataSchema } from './move-data.ts';
import type { OperationParts } from './operation-parts.ts';
import { releaseDataSchema } from './release.ts';
import { standbyDataSchema } from './standby.ts';

type StartParts = Pick<OperationParts, 'db' | 'clock' | 'onChange'>;

/** Writes down a new workspace and the operation that gives it a machine. @throws {DumontError} CONFLICT when the name is taken */
export async function startProvision(
  parts: StartParts,
  body: ProvisionBody,
  storageName: string,
): Promise<{ readonly operationId: OperationId; readonly workspaceId: WorkspaceId }> {
  const workspaceId = body.initial?.workspaceId ?? newId('workspace');
  const operationId = newId('operation');
  const atMs = parts.clock.nowMs();
  try {
    await parts.db.transaction(async (tx) => {
      await insertWorkspace(tx, { id: workspaceId, name: body.name, policy: body.policy, atMs });
      if (body.initial !== undefined) {
        const record = body.initial.snapshot;
        await adoptInitialSnapshot(tx, {
          workspaceId,
          epoch: 0,
          record: { ...record, parentId: null },
          storage: storageName,
          atMs,
        });
      }
      await insertOperation(tx, {
        id: operationId,
        kind: 'provision',
        workspaceId,
        state: 'searching',
        data: moveDataSchema.parse({}),
        atMs,
      });
      const data = { name: body.name };
      await appendEvent(tx, { type: 'provision.started', atMs, workspaceId, operationId, data });
    });
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new DumontError('CONFLICT', `a workspace named ${body.name} (or with this id or snapshot) exists already`, {
      field: 'name',
      hint: 'Choose another name.',
      cause: error,
    });
  }
  parts.onChange();
  return { operationId, workspaceId };
}

/**
 * Writes down a failover, unless another operation moves the workspace. The machine that the detector gave up is marked
 * lost in the same transaction: there is never a loss without its failover, nor the other way round.
 * @returns undefined when another one does
 */
export async function startFailover(
  parts: StartParts,
  request: {
    readonly workspaceId: WorkspaceId;
    readonly data: z.input<typeof failoverDataSchema> & { fromInstanceId: InstanceId | null };
  },
): Promise<OperationId | undefined> {
  const { fromInstanceId } = request.data;
  const from = fromInstanceId === null ? undefined : await findInstance(parts.db, fromInstanceId);
  const avoidedMachineIds = from === undefined ? [] : [from.offer.machineId];
  const data = failoverDataSchema.parse({ ...request.data, avoidedMachineIds });
  const { trigger, reason, detectMs } = data;
  return insertMover(
    parts,
    { kind: 'failover', state: 'searching', workspaceId: request.workspaceId, data },
    async (tx, operationId) => {
      const atMs = parts.clock.nowMs();
      if (trigger === 'detector' && fromInstanceId !== null) {
        await applyInstanceEvent(tx, fromInstanceId, 'lost', atMs);
      }
      await appendEvent(tx, {
        type: 'failover.started',
        atMs,
        workspaceId: request.workspaceId,
        instanceId: fromInstanceId,
        operationId,
        data: { trigger, reason, detectMs },
      });
    },
  );
}

/** An operator's move of a workspace to another machine. @throws {DumontError} CONFLICT while another operation moves it */
export async function triggerFailover(
  parts: StartParts,
  workspaceId: WorkspaceId,
  reason: string,
): Promise<OperationId> {
  const workspace = await findWorkspace(parts.db, workspaceId);
  if (workspace === undefined) throw new DumontError('NOT_FOUND', `workspace ${workspaceId} does not exist`);
  const nowMs = parts.clock.nowMs();
  const operationId = await startFailover(parts, {
    workspaceId,
    data: {
      trigger: 'operator',
      reason,
      evidence: [{ kind: 'operator', hard: true, atMs: nowMs }],
      fromInstanceId: workspace.primaryInstanceId ?? workspace.endpointInstanceId,
      silenceBeganAtMs: nowMs,
      confirmedAtMs: nowMs,
      detectMs: 0,
    },
  });
  return operationId ?? throwBusy(workspace.name);
}

/** Stops and destroys one machine. @throws {DumontError} NOT_FOUND, CONFLICT when it is being given back or its workspace is being moved */
export async function startRelease(
  parts: StartParts,
  instanceId: InstanceId,
  options: { readonly snapshotFirst: boolean },
): Promise<OperationId> {
  const instance = await findInstance(parts.db, instanceId);
  if (instance === undefined) throw new DumontError('NOT_FOUND', `instance ${instanceId} does not exist`);
  if (instance.state === 'releasing' || instance.state === 'gone') {
    throw new DumontError('CONFLICT', `instance ${instanceId} is already ${instance.state}`, {
      hint: 'Nothing is left to do.',
    });
  }
  const { workspaceId } = instance;
  const data = releaseDataSchema.parse({ instanceId, snapshotFirst: options.snapshotFirst });
  const operationId = await insertMover(
    parts,
    { kind: 'release', state: 'saving', workspaceId, data },
    async (tx, id) => {
      await appendEvent(tx, {
        type: 'release.started',
        atMs: parts.clock.nowMs(),
        workspaceId,
        instanceId,
        operationId: id,
      });
    },
  );
  return operationId ?? throwBusy(workspaceId);
}

/** Writes down the search for a workspace's standby. @returns undefined while another such search runs */
export async function startStandby(parts: StartParts, workspaceId: WorkspaceId): Promise<OperationId | undefined> {
  const kind = 'standby';
  const data = standbyDataSchema.parse({});
  const operation = { kind, state: 'searching', workspaceId, data } as const;
  return insertOnlyOne(parts, { ...operation, index: ONE_STANDBY_INDEX }, async (tx, operationId) => {
    const atMs = parts.clock.nowMs();
    await appendEvent(tx, { type: 'standby.started', atMs, workspaceId, operationId });
  });
}

function insertMover(
  parts: StartParts,
  operation: {
    readonly kind: OperationKindName;
    readonly state: string;
    readonly workspaceId: WorkspaceId;
    readonly data: Readonly<Record<string, unknown>>;
  },
  alongside: (tx: Queryable, operationId: OperationId) => Promise<void>,
): Promise<OperationId | undefined> {
  return insertOnlyOne(parts, { ...operation, index: ONE_MOVER_INDEX }, alongside);
}

/** @returns undefined where the unique index says that there is such an operation already */
async function insertOnlyOne(
  parts: StartParts,
  { index, ...operation }: Parameters<typeof insertMover>[1] & { readonly index: string },
  alongside: Parameters<typeof insertMover>[2],
): Promise<OperationId | undefined> {
  const operationId = newId('operation');
  try {
    await parts.db.transaction(async (tx) => {
      await insertOperation(tx, { ...operation, id: operationId, atMs: parts.clock.nowMs() });
      await alongside(tx, operationId);
    });
  } catch (error) {
    if (isUniqueViolation(error, index)) return undefined;
    throw error;
  }
  parts.onChange();
  return operationId;
}

function throwBusy(workspace: string): never {
  throw new DumontError('CONFLICT', `another operation is moving workspace ${workspace}`, {
    retryable: true,
    hint: 'Wait until it is finished: dumont failover status.',
  });
}
