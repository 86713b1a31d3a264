import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GcpProvider } from '@dumont/control-plane/providers/gcp/gcp-provider.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GcpWorld } from '../../../../conformance/gcp-world.ts';
import { RestError } from '../../../../simulators/gcp/rest.ts';
import { eventually } from '../../../../world/eventually.ts';

const { signal } = new AbortController();

let world: GcpWorld;
beforeEach(async () => {
  world = await GcpWorld.open();
});
afterEach(() => world[Symbol.asyncDispose]());

async function offerIn(zone: string, provider: GcpProvider = world.provider): Promise<Offer> {
  const offers = await provider.searchOffers({ signal });
  return must(
    offers.find(({ region }) => region === zone),
    `${zone} has an offer`,
  );
}

async function rent(label: string, { zone = 'us-west4-a', ports = [] as readonly number[] } = {}): Promise<string> {
  const { agentEnvironment } = world;
  const order = { offer: await offerIn(zone), label, agentEnvironment, ports };
  const outcome = await world.provider.create(order, { signal });
  if (outcome.kind !== 'created') throw new Error(`renting gave ${JSON.stringify(outcome)}`);
  return outcome.ref;
}

const running = (ref: string) =>
  eventually('the machine to run', async () => {
    const machine = await world.provider.show(ref, { signal });
    return machine?.status === 'running' && machine;
  });

test('an order is a Spot machine that is deleted when it is taken away, without a Google identity', async () => {
  const ref = await rent('dumont-0a1b2c3d-in_0123456789abcdefghjk');
  const { order } = must(world.simulator.instance(ref), 'the simulator has the machine');
  expect(order).toMatchObject({
    description: 'dumont-0a1b2c3d-in_0123456789abcdefghjk',
    machineType: 'zones/us-west4-a/machineTypes/e2-medium',
    labels: { 'dumont-managed': 'true', 'dumont-slot': '1' },
    scheduling: { provisioningModel: 'SPOT', instanceTerminationAction: 'DELETE' },
  });
  expect(order).not.toHaveProperty('serviceAccounts');
});

test('a machine that boots runs the installer of the control plane with its environment', async () => {
  const ref = await rent('boots');
  await running(ref);
  const [report] = await eventually(
    'the installer to report',
    () => world.installer.reports.length > 0 && world.installer.reports,
  );
  expect(report).toContain("DUMONT_ENROL_TOKEN=it's one-time\n");
  const folder = must(world.simulator.instance(ref)?.folder, 'a running machine has a folder');
  expect(await readFile(join(folder, 'startup.log'), 'utf8')).toBe('');
});

test('the ports asked for are opened once per project, and reached at the address of the machine', async () => {
  const first = await running(await rent('port-1', { ports: [8_767] }));
  await rent('port-2', { ports: [8_767] });
  expect([...world.simulator.firewalls.keys()]).toEqual(['dumont-tcp-8767']);
  expect(world.simulator.firewalls.get('dumont-tcp-8767')).toMatchObject({
    direction: 'INGRESS',
    targetTags: ['dumont-tcp-8767'],
    allowed: [{ IPProtocol: 'tcp', ports: ['8767'] }],
  });
  const host = must(first.probe, 'it runs').host;
  expect([...first.ports]).toEqual([[8_767, { host, port: 8_767 }]]);
  expect(world.simulator.calls.filter((call) => call === 'POST global/firewalls')).toHaveLength(1);
});

test('a zone without room is offer-gone, and is not offered again for a while', async () => {
  world.simulator.exhausted.add('us-west4-a');
  const order = { offer: await offerIn('us-west4-a'), label: 'crowded', agentEnvironment: {} };
  expect(await world.provider.create(order, { signal })).toEqual({ kind: 'offer-gone' });
  const zones = (await world.provider.searchOffers({ signal })).map(({ region }) => region);
  expect(zones).not.toContain('us-west4-a');
  expect(zones).toContain('us-west4-b');
  expect(await world.provider.list({ signal })).toEqual([]);
});

test('a refusal is told with the reason, and nothing is rented', async () => {
  world.simulator.refusal = new RestError(403, 'quotaExceeded', "Quota 'PREEMPTIBLE_CPUS' exceeded.");
  const order = { offer: await offerIn('us-west4-a'), label: 'poor', agentEnvironment: {} };
  const outcome = await world.provider.create(order, { signal });
  expect(outcome).toMatchObject({ kind: 'refused', reason: expect.stringContaining('PREEMPTIBLE_CPUS') });
});

test('what Google refuses once it has taken the order on is no refusal of the order', async () => {
  const order = { offer: await offerIn('us-west4-a'), label: 'half', agentEnvironment: world.agentEnvironment };
  world.simulator.hidesOperations = true;
  await expect(world.provider.create(order, { signal })).rejects.toMatchObject({ code: 'PROVIDER' });
  expect(await world.provider.list({ signal })).toMatchObject([{ label: 'half' }]);
});

test('an order whose answer is lost throws, and the machine is found by its label', async () => {
  world.simulator.losesAnswers = true;
  const order = { offer: await offerIn('us-west4-a'), label: 'unheard', agentEnvironment: world.agentEnvironment };
  await expect(world.provider.create(order, { signal })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retryable: true,
  });
  const machines = await world.provider.list({ signal });
  expect(machines.map(({ label }) => label)).toEqual(['unheard']);
  world.simulator.losesAnswers = false;
  expect(await world.provider.create(order, { signal })).toEqual({ kind: 'created', ref: machines[0]?.ref });
});

test('a machine that Google takes back is interrupted, then gone; one that we destroy is stopped, then gone', async () => {
  const [taken, destroyed] = [await rent('taken'), await rent('destroyed')];
  await Promise.all([running(taken), running(destroyed)]);
  world.simulator.preempt(taken);
  await world.provider.destroy(destroyed, { signal });
  expect(await world.provider.show(taken, { signal })).toMatchObject({ status: 'interrupted', rawStatus: 'STOPPING' });
  expect(await world.provider.show(destroyed, { signal })).toMatchObject({ status: 'stopped', rawStatus: 'STOPPING' });
  await eventually('both to be gone', async () => (await world.provider.list({ signal })).length === 0);
});

test('every machine is listed, over pages and zones', async () => {
  const zones = ['us-west4-a', 'us-west4-b', 'europe-north2-a', 'us-west4-a', 'europe-west10-c'];
  const refs = [];
  for (const [index, zone] of zones.entries()) refs.push(await rent(`fleet-${index}`, { zone }));
  const listed = await world.provider.list({ signal });
  expect(listed.map(({ ref }) => ref).toSorted()).toEqual(refs.toSorted());
});

test.each([
  ['REPAIRING', 'unreachable'],
  ['SUSPENDED', 'stopped'],
  ['TERMINATED', 'stopped'],
  ['A_WORD_OF_NEXT_YEAR', 'running'],
])('a machine that ran and is %s counts as %s', async (word, status) => {
  const ref = await rent('words');
  await running(ref);
  must(world.simulator.instance(ref), 'it is there').status = word;
  expect(await world.provider.show(ref, { signal })).toMatchObject({ status, rawStatus: word });
});

test('credentials that are none are refused before Google is asked, without quoting them', async () => {
  const { projectId, url } = world.simulator;
  const credentials = { json: '{"private_key": "secret"}' };
  const provider = world.another({ api: { projectId, url, credentials } });
  const error: unknown = await provider.list({ signal }).catch((error: unknown) => error);
  expect(error).toMatchObject({ code: 'USAGE', field: 'DUMONT_GCP_CREDENTIALS' });
  expect(String(error)).not.toContain('secret');
});

test('an account that Google does not accept is an error of the provider with a hint', async () => {
  await using other = await GcpWorld.open();
  const { projectId, url } = world.simulator;
  const provider = world.another({ api: { projectId, url, credentials: { json: other.simulator.credentials } } });
  await expect(provider.list({ signal })).rejects.toMatchObject({
    code: 'PROVIDER',
    hint: expect.stringContaining('role'),
  });
});
