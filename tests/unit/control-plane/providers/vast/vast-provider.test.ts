import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { CreateRequest, ProviderMachine } from '@dumont/control-plane/providers/provider.ts';
import { VastApi } from '@dumont/control-plane/providers/vast/vast-api.ts';
import { VastProvider } from '@dumont/control-plane/providers/vast/vast-provider.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Fault } from '../../../../simulators/vast/faults.ts';
import { eventually } from '../../../../world/eventually.ts';
import { makeTempFolder } from '../../../../world/temp-folder.ts';
import { VastWorld } from '../../../../world/vast-world.ts';

const { signal } = new AbortController();
const WITHIN = { timeout: 60_000 };

/** The machines of the simulator are real: without an SSH server there are none. */
describe.skipIf(!existsSync('/usr/sbin/sshd'))('the adapter on the simulated service', WITHIN, () => {
  let world: VastWorld;
  beforeEach(async () => {
    world = await VastWorld.open();
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const contracts = () => [...world.simulator.account.contracts.values()];
  const history = () => world.simulator.account.history;
  const offers = () => world.provider.searchOffers({ signal });
  const requests = (start: string) => world.simulator.requests.filter((request) => request.startsWith(start)).length;

  async function order(label: string, changes: Partial<CreateRequest> = {}) {
    const offer = changes.offer ?? must((await offers())[0], 'the market has offers');
    return world.provider.create({ offer, label, agentEnvironment: {}, ...changes }, { signal });
  }

  async function rent(label: string, changes: Partial<CreateRequest> = {}): Promise<string> {
    const outcome = await order(label, changes);
    if (outcome.kind !== 'created') throw new Error(`renting gave ${JSON.stringify(outcome)}`);
    return outcome.ref;
  }

  const reaches = (ref: string, status: ProviderMachine['status']) =>
    eventually(`machine ${ref} is ${status}`, async () => {
      const machine = await world.provider.show(ref, { signal });
      return machine?.status === status && machine;
    });

  /** Rents a machine of the cheapest offer after changing how that behaves. */
  async function rentOn(behaviour: string): Promise<string> {
    const offer = must((await offers())[0], 'an offer');
    world.simulator.inflict({ kind: 'behaviour', offer: Number(offer.offerId), behaviour });
    return rent('odd', { offer });
  }

  test('a burst of orders, looks and ends keeps every limit of the service', async () => {
    const listed = (await offers()).slice(0, 5);
    const refs = await Promise.all(listed.map((offer, index) => rent(`burst-${index}`, { offer })));
    await Promise.all([...refs, ...refs, ...refs].map((ref) => world.provider.show(ref, { signal })));
    await Promise.all(Array.from({ length: 12 }, () => offers()));
    await Promise.all([...refs.map((ref) => world.provider.destroy(ref, { signal })), world.provider.list({ signal })]);
    expect(world.simulator.throttled).toEqual([]);
    expect(contracts()).toEqual([]);
    expect(history().map(({ label }) => label)).toEqual(listed.map((_offer, index) => `burst-${index}`));
  });

  test('every search is for interruptible machines, and offers fit the disk', async () => {
    const found = await offers();
    expect(found.length).toBeGreaterThan(15);
    expect(found.every(({ kind, bidMicroUsdPerHour }) => kind === 'spot' && bidMicroUsdPerHour !== undefined)).toBe(
      true,
    );
    expect(found.map(({ gpuName }) => gpuName)).toContain('RTX 4090');
    expect(found.every(({ region }) => /^[A-Z]{2}$/.test(region))).toBe(true);
  });

  test('an order whose answer was lost is found by its label and not made again', async () => {
    world.simulator.inflict({ kind: 'next-orders', how: 'lost-reply' });
    world.simulator.inflict({ kind: 'visibility-lag', seconds: 30 });
    const ref = await rent('lost');
    expect(history().map(({ id }) => String(id))).toEqual([ref]);
    expect(requests('PUT /api/v0/asks')).toBe(1);
  });

  test('an order of which nothing can be learnt is a throw, not a refusal', async () => {
    const offer = must((await offers())[0], 'an offer');
    world.simulator.inflict({ kind: 'next-orders', how: 'lost-reply' });
    world.simulator.inflict({ kind: 'visibility-lag', seconds: 1_000_000 });
    await expect(order('lost', { offer })).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(requests('PUT /api/v0/asks')).toBe(1);
  });

  test('a machine rented on demand by mistake is given back at once', async () => {
    world.simulator.inflict({ kind: 'next-orders', how: 'on-demand' });
    expect(await order('dear')).toEqual({ kind: 'refused', reason: 'it was rented on demand, not by our bid' });
    expect(history()).toMatchObject([{ isBid: false }]);
    expect(contracts()).toEqual([]);
  });

  test('who gives up waiting does not hold up or fail the others who wait for the same', async () => {
    const impatient = new AbortController();
    const given = world.provider.searchOffers({ signal: impatient.signal });
    const patient = offers();
    impatient.abort(new Error('enough'));
    await expect(given).rejects.toThrow('enough');
    const [first, second, third] = await patient;
    const orders = [
      rent('first', { offer: must(first, 'an offer') }),
      world.provider.create(
        { offer: must(second, 'an offer'), label: 'second', agentEnvironment: {} },
        { signal: AbortSignal.any([signal, AbortSignal.timeout(20)]) },
      ),
      rent('third', { offer: must(third, 'an offer') }),
    ];
    expect((await Promise.allSettled(orders)).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(history().map(({ label }) => label)).toEqual(['first', 'third']);
    expect(requests('POST /api/v0/bundles')).toBe(1);
  });

  test('an offer on demand is never ordered', async () => {
    const offer: Offer = { ...must((await offers())[0], 'an offer'), kind: 'on-demand' };
    expect((await order('dear', { offer })).kind).toBe('refused');
    expect(requests('PUT')).toBe(0);
  });

  test('a refused order that left a stopped contract leaves none', async () => {
    world.simulator.inflict({ kind: 'next-orders', how: 'bid-too-low' });
    expect(await order('low')).toEqual({ kind: 'refused', reason: 'invalid_price: the bid is too low' });
    expect(history()).toHaveLength(1);
    expect(contracts()).toEqual([]);
  });

  test('a price that rose since the search is a refusal without a contract', async () => {
    const offer = must((await offers())[0], 'an offer');
    world.simulator.inflict({ kind: 'price', offer: Number(offer.offerId), minBid: 5 });
    expect((await order('late', { offer })).kind).toBe('refused');
    expect(history()).toEqual([]);
  });

  test.each(['vanish-404', 'vanish-410'])(
    'an offer that vanished (%s) is gone, and not listed again',
    async (behaviour) => {
      const offer = must((await offers())[0], 'an offer');
      world.simulator.inflict({ kind: 'behaviour', offer: Number(offer.offerId), behaviour });
      expect(await order('late', { offer })).toEqual({ kind: 'offer-gone' });
      expect((await offers()).map(({ offerId }) => offerId)).not.toContain(offer.offerId);
    },
  );

  test('without credit orders are refused in the service’s words', async () => {
    world.simulator.inflict({ kind: 'credit', usd: 0 });
    expect(await order('poor')).toEqual({ kind: 'refused', reason: 'insufficient_credit: Insufficient credits' });
    expect(await world.provider.creditMicroUsd({ signal })).toBe(0);
  });

  test('a contract that is not visible yet is pending, in the list as well', async () => {
    world.simulator.inflict({ kind: 'visibility-lag', seconds: 1_000_000 });
    const ref = await rent('hidden');
    expect(await world.provider.show(ref, { signal })).toMatchObject({ status: 'pending', label: 'hidden' });
    expect(await world.provider.list({ signal })).toMatchObject([{ ref, label: 'hidden' }]);
  });

  test.each([
    ['oci-error', 'failed'],
    ['outbid@1', 'interrupted'],
    ['offline@1', 'unreachable'],
  ] as const)('a machine with %s is %s', async (behaviour, status) => {
    await reaches(await rentOn(behaviour), status);
  });

  test('a machine that hangs in loading stays pending', async () => {
    const ref = await rentOn('stuck-loading');
    await eventually('it loads', async () => (await world.provider.show(ref, { signal }))?.rawStatus === 'loading');
    expect(await world.provider.show(ref, { signal })).toMatchObject({
      status: 'pending',
      statusMessage: 'layer 7 of 12: 38%',
    });
  });

  test('a machine runs its start script, opens its ports and lets in the holder of an attached key', async () => {
    const ref = await rent('shell', { ports: [8080], agentEnvironment: { GREETING: 'hello' } });
    const machine = await reaches(ref, 'running');
    expect([...machine.ports.keys()]).toEqual([8080]);
    const root = must(contracts()[0], 'it is rented').machine.root;
    await eventually('its script ran', () => existsSync(join(root, 'root/started')));
    await using folder = await makeTempFolder();
    const key = join(folder.path, 'key');
    await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
    await world.provider.attachSshKey(ref, (await readFile(`${key}.pub`, 'utf8')).trim(), { signal });
    const { host, port } = must(machine.ssh, 'it has an address');
    const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'BatchMode=yes'].flatMap((each) => [
      '-o',
      each,
    ]);
    const user = process.getuid?.() === 0 ? 'root' : must(process.env['USER'], 'who we are');
    const said = await promisify(execFile)('ssh', [
      ...options,
      '-i',
      key,
      '-p',
      `${port}`,
      `${user}@${host}`,
      'cat started',
    ]);
    expect(said.stdout).toBe('started\n');
  });

  test('stopped by us it is stopped, started it runs again with its disk; a start without a GPU is not left waiting', async () => {
    const ref = await rent('nap');
    await reaches(ref, 'running');
    await world.provider.stop(ref, { signal });
    await reaches(ref, 'stopped');
    expect(await world.provider.start(ref, { signal })).toBe('started');
    await reaches(ref, 'running');
    await world.provider.stop(ref, { signal });
    world.simulator.inflict({ kind: 'refuse-starts', instance: Number(ref) });
    expect(await world.provider.start(ref, { signal })).toBe('unavailable');
    expect(contracts()).toMatchObject([{ intended: 'stopped', next: 'stopped' }]);
  });

  test('a higher bid is accepted, a name is changed, an unknown machine is said to be none', async () => {
    const ref = await rent('named');
    await world.provider.changeBid(ref, 123_400, { signal });
    await world.provider.rename(ref, 'renamed', { signal });
    expect(contracts()).toMatchObject([{ bid: 0.1234, label: 'renamed' }]);
    await expect(world.provider.changeBid('7', 1_000, { signal })).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each(['html-503', 'json-500', 'reset'] as const)(
    'while the API is down (%s) there is no answer, and no denial',
    async (how) => {
      const ref = await rent('steady');
      world.simulator.inflict({ kind: 'api-down', how });
      await expect(world.provider.show(ref, { signal })).rejects.toMatchObject({
        code: 'UNAVAILABLE',
        retryable: true,
      });
      world.simulator.inflict({ kind: 'api-up' } satisfies Fault);
      expect(await world.provider.show(ref, { signal })).toMatchObject({ ref });
    },
  );

  test('a refused key is an error that says what to do and does not show the key', async () => {
    const stranger = world.another('a-wrong-key');
    const failure = await stranger.list({ signal }).catch((error: unknown) => error);
    expect(failure).toMatchObject({
      code: 'PROVIDER',
      retryable: false,
      hint: expect.stringContaining('DUMONT_VAST_API_KEY'),
    });
    expect(String(failure)).not.toContain('a-wrong-key');
  });

  test('a control plane or a store that only this computer reaches is refused before anything is ordered', async () => {
    const [clock, log] = [systemClock, createLogger('vast', 'silent')];
    const { url: baseUrl, apiKey } = world.simulator;
    const api = new VastApi({ apiKey, baseUrl, random: seededRandom(1), clock });
    const provider = new VastProvider({ api, clock, log, image: 'ubuntu:24.04', diskGb: 20, onstart: '' });
    const offer = must((await offers())[0], 'an offer');
    const create = (agentEnvironment: Record<string, string>) =>
      provider.create({ offer, label: 'far', agentEnvironment }, { signal });
    await expect(create({ DUMONT_CONTROL_URL: 'http://127.0.0.1:8766' })).rejects.toMatchObject({
      field: 'DUMONT_PUBLIC_URL',
    });
    await expect(create({ DUMONT_FILE_STORE_PATH: '/srv/objects' })).rejects.toMatchObject({
      field: 'STORAGE_PROVIDER',
    });
    expect(history()).toEqual([]);
  });
});
