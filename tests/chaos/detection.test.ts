import { expect, test } from 'vitest';
import { must } from '@dumont/shared/util/assert.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';

const PAUSE_MS = 2_000;

test('a control plane that is stopped for 2 s, or killed and started again, gives up nobody', async () => {
  await using site = await Site.make();
  const first = await ControlPlaneProcess.start(site);
  const workspace = await ProtectedWorkspace.provision(site, 'trusted');
  const primary = await workspace.primary();
  const isAlive = async () => {
    const { connected, liveness } = await workspace.instance(primary.instanceId);
    return connected && liveness === 'alive';
  };
  for (let pause = 0; pause < 3; pause += 1) {
    await eventually('the primary is heard in time', isAlive);
    await first.pause(PAUSE_MS);
  }
  await eventually('it is heard again', isAlive);
  await first.kill();
  await using _second = await ControlPlaneProcess.start(site);
  await eventually('the next control plane hears it', isAlive);
  expect(await workspace.failovers()).toEqual([]);
  expect((await workspace.events()).map(({ type }) => type)).not.toContain('instance.suspect');
  expect(await workspace.view()).toMatchObject({ epoch: 1, primaryInstanceId: primary.instanceId });
});

test('a standby that loses its primary says so, and the loss is in the figures of the detector', async () => {
  await using site = await Site.make();
  await using _controlPlane = await ControlPlaneProcess.start(site);
  const workspace = await ProtectedWorkspace.provision(site, 'witnessed', { standby: { enabled: true } });
  await eventually(
    'the standby is in sync',
    async () => ((await workspace.view()).standby?.behindMs ?? null) !== null,
    40_000,
  );
  const primary = await workspace.primary();
  await site.faults.lose(must(primary.providerRef, 'it was rented'), 'freeze');
  const report = await workspace.failoverOver();
  expect(report.state).toBe('completed');
  expect(report.evidence.map(({ kind }) => kind)).toContain('standby-lost');
  const { items } = await site.client.call('listDetection', { query: { by: 'instance' } });
  expect(items.find(({ instanceId }) => instanceId === primary.instanceId)).toMatchObject({ losses: 1, averted: 0 });
});
