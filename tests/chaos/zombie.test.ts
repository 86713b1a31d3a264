import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import type { InstanceView } from '@dumont/shared/api/views.ts';
import type { SnapshotId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { credentialPath, type CredentialRecord } from '@dumont/agent/identity/credential-file.ts';
import { AgentClient } from '../world/agent-client.ts';
import { startInProcess, StubbornProvider } from '../world/control-plane-in-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

interface Zombie {
  readonly old: InstanceView;
  readonly fresh: InstanceView;
}

/** Takes the primary away and fails over, while the provider cannot destroy the old machine. */
async function failOverFrom(
  workspace: ProtectedWorkspace,
  provider: StubbornProvider,
  how: 'freeze' | 'partition',
): Promise<Zombie> {
  const old = await workspace.primary();
  const ref = must(old.providerRef, 'a primary was rented');
  provider.kept.add(ref);
  await workspace.site.faults.lose(ref, how);
  const fresh = await eventually(
    'a new machine serves',
    async () => {
      const { endpointInstanceId } = await workspace.view();
      return endpointInstanceId !== old.instanceId && endpointInstanceId;
    },
    30_000,
  );
  return { old, fresh: await workspace.instance(fresh) };
}

describe.each([
  ['freeze', 'thaw'],
  ['partition', 'heal'],
] as const)('a primary that comes back from a %s after its successor took over', (how, comeBack) => {
  test('publishes nothing and stops its workload, while the successor goes on; and is destroyed', async () => {
    await using site = await Site.make();
    const provider = new StubbornProvider(site);
    await using _controlPlane = await startInProcess(site, { providers: new Map([[provider.name, provider]]) });
    const workspace = await ProtectedWorkspace.provision(site, 'haunted');
    const { old, fresh } = await failOverFrom(workspace, provider, how);
    const ref = must(old.providerRef, 'it was rented');
    const before = await workspace.snapshots();

    await site.faults[comeBack](ref);
    await eventually('the old workload is stopped', async () => (await workspace.workers(old)).length === 0, 10_000);
    const linesWhenStopped = (await workspace.log(old)).length;
    expect((await workspace.instance(old.instanceId)).standing).toBe('fenced');

    // The successor publishes twice more; nothing of it is the old machine's.
    const after = await eventually('the successor publishes', async () => {
      const snapshots = await workspace.snapshots();
      return snapshots.length >= before.length + 2 && snapshots;
    });
    const fresher = after.slice(0, after.length - before.length);
    expect(fresher.map(({ instanceId }) => instanceId)).toEqual(fresher.map(() => fresh.instanceId));
    const view = await workspace.view();
    expect(view).toMatchObject({ primaryInstanceId: fresh.instanceId, epoch: 2 });
    expect((await workspace.log(old)).length).toBe(linesWhenStopped);
    expect(await workspace.workers(fresh)).toHaveLength(1);

    provider.kept.clear();
    await eventually('the books are closed', async () => (await site.client.call('listLedger')).items.length === 1);
    expect((await workspace.failoverOver()).state).toBe('completed');
    expect((await workspace.instance(old.instanceId)).state).toBe('gone');
  });
});

test('a second loss is not held up by a first machine that cannot be destroyed', async () => {
  await using site = await Site.make();
  const provider = new StubbornProvider(site);
  await using _controlPlane = await startInProcess(site, { providers: new Map([[provider.name, provider]]) });
  const workspace = await ProtectedWorkspace.provision(site, 'twice');
  const { old, fresh } = await failOverFrom(workspace, provider, 'freeze');
  await site.faults.lose(must(fresh.providerRef, 'it was rented'), 'kill');
  const second = await workspace.failoverOver(2, 30_000);
  expect(second).toMatchObject({ state: 'completed', success: true, from: { instanceId: fresh.instanceId } });
  expect((await workspace.instance(old.instanceId)).state).toBe('releasing');
  await workspace.worksOn(await workspace.primary());
});

test('a machine whose successor serves cannot commit, whatever epoch it claims', async () => {
  await using site = await Site.make();
  const provider = new StubbornProvider(site);
  await using _controlPlane = await startInProcess(site, { providers: new Map([[provider.name, provider]]) });
  const workspace = await ProtectedWorkspace.provision(site, 'attacked');
  const old = await workspace.primary();
  const ref = must(old.providerRef, 'a primary was rented');
  const { credential } = JSON.parse(await readFile(credentialPath(site.paths(ref).state), 'utf8')) as CredentialRecord;
  provider.kept.add(ref);
  await site.faults.lose(ref, 'partition');
  // In the place of the machine's own agent, so that its session is open when the fence falls.
  await using impostor = await AgentClient.connect(site, { instanceId: old.instanceId, credential });
  expect(impostor.assignment).toMatchObject({ standing: 'primary', epoch: 1 });

  await eventually('it is told of the fence', () => impostor.assignment.standing === 'fenced', 30_000);
  for (const epoch of [1, 2, 3]) {
    const [head] = await workspace.snapshots();
    const parentId = must(head, 'there is a head').snapshotId as SnapshotId;
    const verdict = await impostor.commit(epoch, { ...head, parentId } as unknown as SnapshotRecord);
    expect(verdict).toEqual({ kind: 'stale-epoch', epoch: 2 });
  }
  expect(
    (await workspace.snapshots()).every(({ instanceId, epoch }) => instanceId !== old.instanceId || epoch === 1),
  ).toBe(true);

  provider.kept.clear();
  await workspace.failoverOver();
  await eventually('its session is ended for good', () => impostor.closeCode === CLOSE_CODES.released);
  await using back = await AgentClient.connect(site, { instanceId: old.instanceId, credential });
  expect(back.received).toMatchObject([{ kind: 'refused', code: 'CONFLICT' }]);
});
