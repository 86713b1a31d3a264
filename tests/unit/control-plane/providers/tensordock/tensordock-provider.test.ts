import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { gpuNameOf } from '@dumont/control-plane/providers/tensordock/tensordock-offers.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TensorDockWorld } from '../../../../conformance/tensordock-world.ts';
import { eventually } from '../../../../world/eventually.ts';

const { signal } = new AbortController();

let world: TensorDockWorld;
beforeEach(async () => {
  world = await TensorDockWorld.open();
});
afterEach(() => world[Symbol.asyncDispose]());

const offers = () => world.provider.searchOffers({ signal });

async function order(label: string, change: Partial<Offer> = {}, ports: readonly number[] = []) {
  const offer = { ...must((await offers())[0], 'the market has offers'), ...change };
  return world.provider.create({ offer, label, agentEnvironment: world.agentEnvironment, ports }, { signal });
}

async function rent(label: string, ports: readonly number[] = []): Promise<string> {
  const outcome = await order(label, {}, ports);
  if (outcome.kind !== 'created') throw new Error(`renting gave ${JSON.stringify(outcome)}`);
  return outcome.ref;
}

const running = (ref: string) =>
  eventually('the machine to run', async () => {
    const machine = await world.provider.show(ref, { signal });
    return machine?.status === 'running' && machine;
  });

test('an offer is one GPU with what belongs to it, at the price of all of it', async () => {
  const austin = (await offers()).find(({ region }) => region === 'Austin, Texas, United States');
  expect(austin).toMatchObject({
    offerId: '11111111-0000-4000-8000-000000000001/geforcertx4090-pcie-24gb',
    gpuName: 'RTX 4090',
    gpuCount: 1,
    diskGb: 100,
    // 0.35 for the GPU, 8 × 0.003, 32 × 0.002, 100 × 0.00005.
    priceMicroUsdPerHour: 443_000,
    kind: 'on-demand',
  });
});

test.each([
  ['geforcertx4090-pcie-24gb', 'RTX 4090'],
  ['geforcertx3080ti-pcie-12gb', 'RTX 3080 Ti'],
  ['rtxa4000-pcie-16gb', 'RTX A4000'],
  ['h100-sxm5-80gb', 'H100 SXM'],
  ['a100-sxm4-80gb', 'A100 SXM4'],
  ['a100-pcie-80gb', 'A100 PCIE'],
  ['teslav100-pcie-16gb', 'Tesla V100'],
  ['l40s-pcie-48gb', 'L40S'],
])('%s is called %s', (v0Name, name) => {
  expect(gpuNameOf(v0Name)).toBe(name);
});

test('a machine runs the installer of the control plane at its first boot, and forgets the script', async () => {
  const ref = await rent('boots');
  await running(ref);
  const [report] = await eventually('the installer to report', () => {
    const { reports } = world.installer;
    return reports.length > 0 && reports;
  });
  expect(report).toContain('DUMONT_ENROL_TOKEN=one-time\n');
  const folder = must(world.simulator.instance(ref)?.folder, 'a running machine has a folder');
  await eventually('the script to be gone', () => !existsSync(join(folder, 'run', 'dumont-startup.sh')));
});

test('SSH and the ports asked for are reached through ports of the host', async () => {
  const machine = await running(await rent('ports', [8_000]));
  expect(machine.ssh).not.toBeNull();
  expect([...machine.ports.keys()]).toEqual([8_000]);
  expect(machine.ports.get(8_000)?.port).not.toBe(machine.ssh?.port);
});

test('a host with too few free ports is an offer that is gone', async () => {
  expect(await order('greedy', {}, [1, 2, 3, 4])).toEqual({ kind: 'offer-gone' });
});

test('an error that comes with status 200 is an error: a full host is offer-gone, a low balance a refusal', async () => {
  const { orderFaults } = world.simulator;
  orderFaults.push({ status: 200, body: { error: 'Hostnode unavailable', status: 400 } });
  expect(await order('full')).toEqual({ kind: 'offer-gone' });
  orderFaults.push({ status: 200, body: { error: 'You need at least $1.00 to deploy', status: 400 } });
  expect(await order('poor')).toMatchObject({ kind: 'refused', reason: expect.stringContaining('balance') });
  expect(await world.provider.list({ signal })).toEqual([]);
});

test('what nobody has seen work is refused with a word, and not asked for', async () => {
  expect(await order('spot', { kind: 'spot' })).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining('spot'),
  });
  expect(await order('plain', { gpuCount: 0 })).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining('GPU'),
  });
  expect(world.simulator.calls).not.toContain('POST /instances');
});

test('an order whose answer is lost throws and is not repeated; ordered again it is found by its label', async () => {
  world.simulator.losesAnswers = true;
  await expect(order('unheard')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(world.simulator.calls.filter((call) => call === 'POST /instances')).toHaveLength(1);
  world.simulator.losesAnswers = false;
  const [machine] = await world.provider.list({ signal });
  expect(machine?.label).toBe('unheard');
  expect(await order('unheard')).toEqual({ kind: 'created', ref: machine?.ref });
});

test('machines are found in either shape of the list', async () => {
  const ref = await rent('shapes');
  for (const isFlat of [true, false]) {
    world.simulator.isFlat = isFlat;
    expect(await world.provider.list({ signal })).toMatchObject([{ ref, label: 'shapes' }]);
    expect(await world.provider.show(ref, { signal })).toMatchObject({ ref, label: 'shapes' });
  }
});

test.each([
  ['StoppedDisassociated', 'interrupted'],
  ['stopped', 'stopped'],
  ['Outbid', 'interrupted'],
  ['Relocating', 'pending'],
])('a machine that is %s counts as %s', async (word, status) => {
  const ref = await rent('words');
  await running(ref);
  must(world.simulator.instance(ref), 'it is there').status = word;
  expect(await world.provider.show(ref, { signal })).toMatchObject({ status, rawStatus: word });
});

test('a machine that is kept for the record only is gone', async () => {
  const ref = await rent('record');
  await running(ref);
  must(world.simulator.instance(ref), 'it is there').status = 'Terminated';
  expect(await world.provider.show(ref, { signal })).toBeNull();
  expect(await world.provider.list({ signal })).toEqual([]);
});

test('a key that TensorDock does not accept is told without quoting it', async () => {
  const provider = world.another({ apiKey: 'td-wrong-and-secret' });
  const error: unknown = await provider.list({ signal }).catch((error: unknown) => error);
  expect(error).toMatchObject({ code: 'PROVIDER', message: expect.stringContaining('Unauthorized') });
  expect(String(error)).not.toContain('td-wrong-and-secret');
});
