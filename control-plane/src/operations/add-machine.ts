import type { AddMachineBody } from '@dumont/shared/api/endpoints.ts';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { OWN_PROVIDER_NAME, ownOffer } from '../providers/own/own-provider.ts';
import type { Queryable } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { applyInstanceEvent, insertInstance, setProviderRef } from '../store/instances.ts';
import { markRented, openLedgerRow } from '../store/ledger.ts';
import { insertOperation } from '../store/operations.ts';
import { isUniqueViolation } from '../store/serialization.ts';
import { insertWorkspace } from '../store/workspaces.ts';
import { issueEnrolToken } from '../workspaces/enrolment.ts';
import { moveDataSchema } from './move-data.ts';
import type { OperationParts } from './operation-parts.ts';

export interface AddedMachine {
  readonly workspaceId: WorkspaceId;
  readonly operationId: OperationId;
  readonly instanceId: InstanceId;
  /** Known to the caller alone: the database has its hash. */
  readonly enrolToken: string;
  readonly expiresAtMs: number;
}

/**
 * Writes down a new workspace, the machine its owner will bring, the machine's one-time token, and the operation that
 * waits for it until the token expires, all or nothing.
 * @throws {DumontError} CONFLICT when the name is taken
 */
export async function addMachine(
  parts: Pick<OperationParts, 'db' | 'clock' | 'onChange'> & {
    readonly labelPrefix: string;
    /** How long its token can be used, ms. */
    readonly ownTokenMs: number;
  },
  body: AddMachineBody,
): Promise<AddedMachine> {
  const ids = { workspaceId: newId('workspace'), operationId: newId('operation'), instanceId: newId('instance') };
  const atMs = parts.clock.nowMs();
  const expiresAtMs = atMs + parts.ownTokenMs;
  try {
    const enrolToken = await parts.db.transaction(async (tx) => {
      const { workspaceId, operationId, instanceId } = ids;
      await insertWorkspace(tx, { id: workspaceId, name: body.workspace, policy: body.policy, atMs });
      await insertOperation(tx, {
        id: operationId,
        kind: 'provision',
        workspaceId,
        // There is nothing to search for: the machine is known.
        state: 'provisioning',
        data: moveDataSchema.parse({ ownMachineUntilMs: expiresAtMs }),
        atMs,
      });
      await writeMachine(tx, { ...ids, label: `${parts.labelPrefix}${instanceId}`, atMs });
      const data = { name: body.workspace };
      await appendEvent(tx, { type: 'provision.started', atMs, workspaceId, operationId, data });
      return issueEnrolToken(tx, instanceId, { atMs, expiresAtMs });
    });
    parts.onChange();
    return { ...ids, enrolToken, expiresAtMs };
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new DumontError('CONFLICT', `a workspace named ${body.workspace} exists already`, {
      field: 'workspace',
      hint: 'Choose another name.',
      cause: error,
    });
  }
}

/** The machine is ours to use from the start, so it stands in the books as accepted. */
async function writeMachine(
  tx: Queryable,
  machine: {
    readonly workspaceId: WorkspaceId;
    readonly operationId: OperationId;
    readonly instanceId: InstanceId;
    readonly label: string;
    readonly atMs: number;
  },
): Promise<void> {
  const { workspaceId, operationId, instanceId, label, atMs } = machine;
  const offer = ownOffer(instanceId);
  await insertInstance(tx, { id: instanceId, workspaceId, operationId, role: 'gpu', offer, atMs });
  await openLedgerRow(tx, { instanceId, provider: OWN_PROVIDER_NAME, label, priceMicroUsdPerHour: 0, atMs });
  await markRented(tx, instanceId, instanceId, atMs);
  await setProviderRef(tx, instanceId, instanceId);
  await applyInstanceEvent(tx, instanceId, 'accepted', atMs);
  const { offerId, machineId } = offer;
  await appendEvent(tx, {
    type: 'machine.requested',
    atMs,
    workspaceId,
    instanceId,
    operationId,
    data: { offerId, machineId },
  });
}
