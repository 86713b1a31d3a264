import type { Queryable } from '@dumont/control-plane/store/database.ts';
import { insertInstance } from '@dumont/control-plane/store/instances.ts';
import { insertWorkspace } from '@dumont/control-plane/store/workspaces.ts';
import type { InstanceId, OperationId, SnapshotId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';

/** Rows with plausible contents, for tests that are about something else. */

export async function someWorkspace(db: Queryable, name?: string, atMs = 1_000): Promise<WorkspaceId> {
  const id = newId('workspace');
  await insertWorkspace(db, { id, name: name ?? id, policy: workspacePolicySchema.parse({}), atMs });
  return id;
}

export function someOffer(over: Partial<Offer> = {}): Offer {
  return {
    provider: 'local',
    offerId: 'offer-1',
    machineId: 'machine-1',
    gpuName: 'RTX 4090',
    gpuCount: 1,
    diskGb: 100,
    priceMicroUsdPerHour: 310_000,
    reliability: 0.98,
    region: 'eu-west',
    kind: 'spot',
    ...over,
  };
}

export async function someInstance(
  db: Queryable,
  workspaceId: WorkspaceId,
  over: { readonly operationId?: OperationId; readonly atMs?: number } = {},
): Promise<InstanceId> {
  const id = newId('instance');
  await insertInstance(db, {
    id,
    workspaceId,
    operationId: over.operationId ?? null,
    role: 'gpu',
    offer: someOffer(),
    atMs: over.atMs ?? 1_000,
  });
  return id;
}

export function someSnapshot(parentId: SnapshotId | null = null): SnapshotRecord {
  const snapshotId = newId('snapshot');
  return {
    snapshotId,
    parentId,
    manifestKey: `manifests/${snapshotId}`,
    manifestHash: 'ab'.repeat(32),
    startedAtMs: 1_000,
    createMs: 12.5,
    fileCount: 3,
    totalBytes: 4_096,
    newBytes: 1_024,
    storedBytes: 700,
    tornPaths: [],
  };
}
