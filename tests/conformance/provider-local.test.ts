import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { LocalProvider } from '@dumont/control-plane/providers/local/local-provider.ts';
import { livePids } from '@dumont/control-plane/providers/local/process-tree.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { eventually, isProcessAlive, LocalWorld, probe, type AgentLine } from './provider-world.ts';

const { signal } = new AbortController();

let world: LocalWorld;
beforeEach(async () => {
  world = await LocalWorld.open();
});
afterEach(() => world[Symbol.asyncDispose]());

async function order(label: string, provider: LocalProvider = world.provider, extra: Record<string, string> = {}) {
  const [offer] = await provider.searchOffers({ signal });
  const agentEnvironment = { DUMONT_CONTROL_URL: world.listener.url, ...extra };
  return provider.create({ offer: must(offer, 'the market has offers'), label, agentEnvironment }, { signal });
}

async function rent(label: string, provider: LocalProvider = world.provider, extra: Record<string, string> = {}) {
  const outcome = await order(label, provider, extra);
  if (outcome.kind !== 'created') throw new Error(`renting gave ${outcome.kind}`);
  return outcome.ref;
}

async function rentReady(label: string, extra: Record<string, string> = {}) {
  const ref = await rent(label, world.provider, extra);
  const line = await world.listener.heard(ref);
  await world.listener.beatsOn(line);
  return { ref, line, paths: must(world.provider.paths(ref), 'a machine has paths') };
}

const show = async (ref: string) => must(await world.provider.show(ref, { signal }), 'the machine exists');
const probeOf = async (ref: string) => must((await show(ref)).probe, 'the machine has a probe address');

/** Neither probe nor beat, once the beats that were on their way have arrived. */
async function expectSilence(line: AgentLine, address: Parameters<typeof probe>[0]): Promise<void> {
  expect(await probe(address, 100)).toBe('silent');
  const before = line.beats;
  expect(await probe(address, 200)).toBe('silent');
  expect(line.beats).toBe(before);
}

function expectDead(line: AgentLine): void {
  expect([line.hello.pid, line.hello.strayPid].filter(isProcessAlive)).toEqual([]);
}

describe('a local machine', () => {
  test('passes from no status over loading to running', async () => {
    const ref = await rent('raw');
    const seen: (string | null)[] = [];
    await eventually('the machine to run', async () => {
      const { rawStatus } = await show(ref);
      if (seen.at(-1) !== rawStatus || seen.length === 0) seen.push(rawStatus);
      return rawStatus === 'running';
    });
    expect(seen).toEqual([null, 'loading', 'running']);
  });

  test('gives its agent a workspace, a state folder, a mounted store and an uplink, and no secret of ours', async () => {
    const store = join(world.root, 'bucket');
    await mkdir(store);
    process.env['DUMONT_TEST_SECRET'] = 'for the control plane only';
    const { line, paths } = await rentReady('equipped', { DUMONT_FILE_STORE_PATH: store, DUMONT_TOKEN: 't' });
    delete process.env['DUMONT_TEST_SECRET'];
    const { environment, cwd } = line.hello;
    expect(cwd).toBe(paths.workspace);
    expect(environment).toMatchObject({
      DUMONT_WORKSPACE_DIR: paths.workspace,
      DUMONT_STATE_DIR: paths.state,
      DUMONT_FILE_STORE_MOUNT: paths.mount,
      DUMONT_TOKEN: 't',
    });
    expect(environment['DUMONT_CONTROL_URL']).toMatch(/^ws:\/\/127\.0\.0\.1:\d+\/agent\/v1$/);
    expect(environment['DUMONT_CONTROL_URL']).not.toBe(world.listener.url);
    expect(environment).not.toHaveProperty('DUMONT_FILE_STORE_PATH');
    expect(environment).not.toHaveProperty('DUMONT_TEST_SECRET');
    expect(await readlink(paths.mount)).toBe(store);
  });

  test('starts its agent again after a crash', async () => {
    const { ref, line } = await rentReady('crash');
    line.socket.write('crash\n');
    const next = await world.listener.heard(ref, 2);
    expect(next.hello.pid).not.toBe(line.hello.pid);
    expect((await show(ref)).status).toBe('running');
  });

  test('leaves no process and no file behind when destroyed', async () => {
    const { ref, line } = await rentReady('clean');
    expect(isProcessAlive(line.hello.strayPid)).toBe(true);
    await world.provider.destroy(ref, { signal });
    expectDead(line);
    expect(await world.provider.show(ref, { signal })).toBeNull();
    const left = await readdir(world.root, { recursive: true, withFileTypes: true });
    expect(left.filter((entry) => !entry.isDirectory())).toEqual([]);
    expect(await readdir(join(world.root, 'machines'))).toEqual([]);
  });

  test('outlives a kill -9 of the process that rented it', async () => {
    const creator = spawn(
      process.execPath,
      [fileURLToPath(new URL('./provider-creator.ts', import.meta.url)), world.root, world.listener.url],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const [text] = (await once(createInterface({ input: creator.stdout }), 'line')) as [string];
    const { ref } = JSON.parse(text) as { readonly ref: string };
    creator.kill('SIGKILL');
    await once(creator, 'exit');
    const line = await world.listener.heard(ref);
    await world.listener.beatsOn(line);
    expect(await show(ref)).toMatchObject({ status: 'running', label: 'orphan' });
    await world.faults.lose(ref, 'freeze');
    await world.provider.destroy(ref, { signal });
    expectDead(line);
  });

  test('ends by itself when its folder is removed', async () => {
    const { ref, paths } = await rentReady('erased');
    expect((await livePids({ ref, leader: null })).length).toBeGreaterThanOrEqual(3);
    await rm(paths.folder, { recursive: true, force: true });
    await eventually('every process to end', async () => (await livePids({ ref, leader: null })).length === 0);
  });

  test('an order that a crash left without a host is visible, finished by ordering it again, and destroyable', async () => {
    const { ref, paths, line } = await rentReady('half');
    const leader = JSON.parse(await readFile(paths.leader, 'utf8')) as { readonly pid: number };
    process.kill(leader.pid, 'SIGKILL');
    await eventually('the loss to show', async () => (await show(ref)).status === 'interrupted');
    // What is left now is what a crash right after the order leaves: a folder that no host ever claimed.
    await Promise.all([paths.leader, paths.status].map((path) => rm(path)));
    expect(await show(ref)).toMatchObject({ status: 'pending', rawStatus: null });
    expect(await rent('half')).toBe(ref);
    const next = await world.listener.heard(ref, 2);
    await world.provider.destroy(ref, { signal });
    expectDead(line);
    expectDead(next);
  });

  test('is not mistaken for a stranger that has its process id now', async () => {
    const { ref, paths, line } = await rentReady('reused');
    const bystander = spawn('sleep', ['600'], { stdio: 'ignore' });
    const leader = JSON.parse(await readFile(paths.leader, 'utf8')) as Record<string, unknown>;
    await writeFile(paths.leader, JSON.stringify({ ...leader, pid: bystander.pid }));
    expect((await show(ref)).status).toBe('interrupted');
    await world.provider.destroy(ref, { signal });
    expectDead(line);
    expect(isProcessAlive(must(bystander.pid, 'it runs'))).toBe(true);
    bystander.kill();
    await once(bystander, 'exit');
  });

  test('refuses a control plane address that a relay cannot carry', async () => {
    const [offer] = await world.provider.searchOffers({ signal });
    const agentEnvironment = { DUMONT_CONTROL_URL: 'wss://control.example/agent/v1' };
    const creating = world.provider.create(
      { offer: must(offer, 'an offer'), label: 'tls', agentEnvironment },
      { signal },
    );
    await expect(creating).rejects.toMatchObject({ code: 'USAGE', field: 'DUMONT_CONTROL_URL' });
  });
});

describe('a lost local machine', () => {
  test('killed: every process and the disk are gone, the provider says so at once, the probe is refused', async () => {
    const { ref, line, paths } = await rentReady('killed');
    const address = await probeOf(ref);
    await world.faults.lose(ref, 'kill');
    expectDead(line);
    expect(existsSync(paths.disk)).toBe(false);
    expect(await show(ref)).toMatchObject({ status: 'interrupted', rawStatus: 'exited', label: 'killed' });
    expect(await probe(address, 5_000)).toBe('refused');
    await eventually('the connection to break', () => line.closed);
    expect(
      await world.provider.create(
        {
          offer: must((await world.provider.searchOffers({ signal }))[0], 'an offer'),
          label: 'killed',
          agentEnvironment: {},
        },
        { signal },
      ),
    ).toEqual({ kind: 'created', ref });
    expect((await show(ref)).status).toBe('interrupted');
  });

  test('frozen: connections stay open and silent, the provider notices late, a thaw brings it back', async () => {
    const { ref, line } = await rentReady('frozen');
    const address = await probeOf(ref);
    await world.faults.lose(ref, 'freeze');
    await expectSilence(line, address);
    expect(line.closed).toBe(false);
    expect((await show(ref)).status).toBe('running');
    const impatient = world.another({ offlineAfterMs: 0 });
    expect(await impatient.show(ref, { signal })).toMatchObject({ status: 'unreachable', rawStatus: 'offline' });
    await world.faults.thaw(ref);
    await world.listener.beatsOn(line);
    expect((await impatient.show(ref, { signal }))?.status).toBe('running');
    expect(await probe(address, 5_000)).toBe('answered');
  });

  test('cut off: it works on, but nothing passes and the store is unmounted, until it is healed', async () => {
    const store = join(world.root, 'bucket');
    await mkdir(store);
    const { ref, line, paths } = await rentReady('cut', { DUMONT_FILE_STORE_PATH: store });
    const address = await probeOf(ref);
    await world.faults.lose(ref, 'partition');
    await expectSilence(line, address);
    expect(line.closed).toBe(false);
    expect(isProcessAlive(line.hello.pid)).toBe(true);
    expect(existsSync(paths.mount)).toBe(false);
    // The agent dies and comes back inside the cut: not even its new connection gets out.
    const known = await livePids({ ref, leader: null });
    process.kill(line.hello.pid, 'SIGKILL');
    await eventually('the next agent and its child', async () => {
      const now = await livePids({ ref, leader: null });
      return now.filter((pid) => !known.includes(pid)).length === 2;
    });
    expect(await probe(address, 100)).toBe('silent');
    expect(line.closed).toBe(false);
    expect(world.listener.lines).toHaveLength(1);
    expect((await show(ref)).status).toBe('running');
    expect((await world.another({ offlineAfterMs: 0 }).show(ref, { signal }))?.status).toBe('unreachable');

    await world.faults.heal(ref);
    const next = await world.listener.heard(ref, 2);
    await world.listener.beatsOn(next);
    expect(await probe(address, 5_000)).toBe('answered');
    expect(await readlink(paths.mount)).toBe(store);
  });

  test('cut off for a moment: the agent’s beats arrive on the same connection after the heal', async () => {
    const { ref, line } = await rentReady('blip');
    await world.faults.lose(ref, 'partition');
    expect(await probe(await probeOf(ref), 100)).toBe('silent');
    await world.faults.heal(ref);
    await world.listener.beatsOn(line);
    expect(world.listener.lines).toHaveLength(1);
  });

  test.for(['kill', 'freeze', 'partition'] as const)(
    'lost by %s while it boots: never says hello, and can be destroyed',
    async (kind) => {
      const slow = world.another({ bootScale: 1 });
      const ref = await rent('early', slow);
      await world.faults.lose(ref, kind);
      await world.provider.destroy(ref, { signal });
      expect(await world.provider.show(ref, { signal })).toBeNull();
      expect(world.listener.lines).toEqual([]);
    },
  );

  test('an unknown machine cannot be lost', async () => {
    await expect(world.faults.lose('lm-00000000000000000000', 'kill')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(world.faults.heal('../..')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

describe('a difficult local market', () => {
  test('refuses as many orders as it was told, then accepts', async () => {
    await world.faults.refuseNext(2);
    expect((await order('a')).kind).toBe('refused');
    expect((await order('a', world.another())).kind).toBe('refused');
    expect((await order('a')).kind).toBe('created');
  });

  test('delivers a machine that never leaves loading', async () => {
    await world.faults.refuseNext(1, 'stuck');
    const stuck = await rent('stuck');
    const fine = await rent('fine');
    await world.listener.heard(fine);
    await eventually('loading', async () => (await show(stuck)).rawStatus === 'loading');
    expect(world.listener.lines.map((line) => line.hello.ref)).toEqual([fine]);
  });

  test('loses offers between the listing and the order', async () => {
    const [offer] = await world.provider.searchOffers({ signal });
    const known = must(offer, 'an offer');
    await world.faults.vanishOffers([known.offerId]);
    const request = { offer: known, label: 'late', agentEnvironment: {} };
    expect(await world.provider.create(request, { signal })).toEqual({ kind: 'offer-gone' });
    const listed = await world.provider.searchOffers({ signal });
    expect(listed.map((other) => other.offerId)).not.toContain(known.offerId);
    await world.faults.calmMarket();
    expect((await world.provider.create(request, { signal })).kind).toBe('created');
  });

  test('two providers that order one offer at the same moment never both get it', async () => {
    const [offer] = await world.provider.searchOffers({ signal });
    const contenders = Array.from({ length: 4 }, (_, index) =>
      world
        .another()
        .create({ offer: must(offer, 'an offer'), label: `contender-${index}`, agentEnvironment: {} }, { signal }),
    );
    const kinds = (await Promise.all(contenders)).map((outcome) => outcome.kind);
    expect(kinds.filter((kind) => kind === 'created').length).toBeLessThanOrEqual(1);
    expect(await world.provider.list({ signal })).toHaveLength(kinds.filter((kind) => kind === 'created').length);
  });
});
