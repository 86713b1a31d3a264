import type { InstanceRow } from '@dumont/control-plane/store/instances.ts';
import type { WorkspaceRow } from '@dumont/control-plane/store/workspaces.ts';
import { standingOf } from '@dumont/control-plane/workspaces/standing.ts';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import { expect, test } from 'vitest';

const mover = newId('operation');
const workspaceId = newId('workspace');

function workspaceOf(primaryInstanceId: InstanceId | null): WorkspaceRow {
  const policy = workspacePolicySchema.parse({});
  return {
    id: workspaceId,
    name: 'w',
    epoch: 3,
    primaryInstanceId,
    endpointInstanceId: null,
    headSnapshotId: null,
    standbyInstanceId: null,
    policy,
    createdAtMs: 0,
  };
}

function instanceOf(changes: Partial<InstanceRow>): InstanceRow {
  const offer = { provider: 'local', offerId: 'o', machineId: 'm', gpuName: 'g', gpuCount: 1, diskGb: 1 };
  return {
    id: newId('instance'),
    workspaceId,
    operationId: mover,
    role: 'gpu',
    state: 'ready',
    epoch: null,
    credentialHash: null,
    nextCredentialHash: null,
    formerCredentialHash: null,
    offer: { ...offer, priceMicroUsdPerHour: 1, reliability: 1, region: 'r', kind: 'spot' },
    providerRef: null,
    requestedAtMs: 0,
    readyAtMs: null,
    lostAtMs: null,
    goneAtMs: null,
    ...changes,
  };
}

test('the holder of the lease is primary, whatever else is true of it', () => {
  const instance = instanceOf({ state: 'lost', epoch: 3 });
  expect(standingOf({ workspace: workspaceOf(instance.id), instance, movedBy: null })).toBe('primary');
});

test.each([
  ['a standby follows', { role: 'standby', operationId: null }, mover, 'standby'],
  ['a machine of the moving operation is prepared', { state: 'booting' }, mover, 'replacement'],
  ['a machine of an operation that is over is fenced', {}, null, 'fenced'],
  ['a machine of another operation is fenced', { operationId: newId('operation') }, mover, 'fenced'],
  ['a former primary is fenced, even when this operation rented it', { epoch: 2 }, mover, 'fenced'],
  ['a lost machine is no replacement', { state: 'lost' }, mover, 'fenced'],
  ['a machine being given back is no replacement', { state: 'releasing' }, mover, 'fenced'],
] as const)('%s', (_, changes, movedBy, expected) => {
  expect(standingOf({ workspace: workspaceOf(null), instance: instanceOf(changes), movedBy })).toBe(expected);
});
