import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import { anyKind } from '@dumont/control-plane/operations/operation-kind.ts';
import { providerTestKind } from '@dumont/control-plane/operations/provider-test.ts';
import { startProviderTest } from '@dumont/control-plane/operations/start-test.ts';
import { buildTestReport } from '@dumont/control-plane/operations/test-report.ts';
import { listWorkspaces } from '@dumont/control-plane/store/workspaces.ts';
import { providerTestBodySchema, type ProviderTestBody } from '@dumont/shared/api/test-endpoints.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { OperationsWorld } from './operations-world.ts';

const STEPS = ['searching', 'creating', 'booting', 'reaching', 'writing', 'verifying', 'sampling', 'destroying'];
const AFFORDABLE = { maxCostMicroUsd: 10_000_000 };

async function begin(world: OperationsWorld, body: Partial<ProviderTestBody> = {}): Promise<OperationId> {
  const id = await startProviderTest(world.parts, providerTestBodySchema.parse({ ...AFFORDABLE, ...body }));
  world.runner.nudge();
  return id;
}

const reportOf = (world: OperationsWorld, id: OperationId) => buildTestReport(world.truth, id, world.clock.nowMs());

onEachDatabase((database) => {
  test('a provider is tried with one machine, which is proven gone, and each step is stored with its share', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const id = await begin(world);
    expect((await world.finished(id)).state).toBe('completed');
    const report = await reportOf(world, id);
    expect(report).toMatchObject({ success: true, error: null, kind: 'provider-test', workspaceName: null });
    expect(report.steps.map(({ step }) => step)).toEqual(STEPS);
    expect(report.steps.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 5);
    expect(report.statuses).toMatchObject([{ status: 'running', rawStatus: 'up' }]);
    expect(report.evidence.map(({ ok }) => ok)).toEqual(Array.from({ length: 8 }, () => true));
    expect(report.machines).toHaveLength(1);
    expect(report.costMicroUsd).toBe(report.machines[0]?.costMicroUsd);
    expect(world.provider.machines.size).toBe(0);
    // What it rented under is nobody's workspace.
    expect(await listWorkspaces(world.truth, { limit: 10 })).toEqual([]);
  });

  test.each([
    ['writes something else than it was told', 'write-probe', 'writing'],
    ['reads something else than it wrote', 'read-probe', 'verifying'],
  ] as const)('a machine that %s fails the test, and is destroyed', async (_, name, step) => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const file = { sha256: '00'.repeat(32), bytes: 1, tookMs: 1 };
    world.agents.answers[name] = () => Promise.resolve({ name, file });
    const id = await begin(world);
    expect((await world.finished(id)).state).toBe('failed');
    const report = await reportOf(world, id);
    expect(report.success).toBe(false);
    expect(report.steps.at(-2)).toMatchObject({ step, outcome: 'stepFailed' });
    expect(report.evidence.filter(({ ok }) => !ok)).toHaveLength(1);
    expect(world.provider.machines.size).toBe(0);
  });

  test('GPUs that were ordered and are not there fail the test, unless they are not asked for', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const none = { isThere: false, driver: null, gpus: [], tookMs: 1, error: 'there is no nvidia-smi' };
    world.agents.answers['sample-gpus'] = () => Promise.resolve({ name: 'sample-gpus', ...none });
    const strict = await begin(world);
    expect((await world.finished(strict)).error).toContain('there is no nvidia-smi');
    const lenient = await begin(world, { requireGpu: false });
    expect((await world.finished(lenient)).state).toBe('completed');
    expect(world.provider.machines.size).toBe(0);
  });

  test('without an offer within the budget nothing is rented', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    const id = await begin(world, { maxCostMicroUsd: 1 });
    expect((await world.finished(id)).state).toBe('failed');
    expect(world.provider.orders).toEqual([]);
  });

  test('a test that is cancelled while it waits destroys its machine', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    world.isMute = true;
    const id = await begin(world);
    await eventually('a machine is awaited', async () => (await reportOf(world, id)).state === 'reaching');
    expect(await world.runner.interrupt(id, 'cancelled', { failure: 'cancelled by an operator' })).toBe(true);
    expect((await world.finished(id)).state).toBe('failed');
    expect((await reportOf(world, id)).error).toBe('cancelled by an operator');
    expect(world.provider.machines.size).toBe(0);
  });

  test('a machine that has cost what it may is destroyed, however far the test has come', async () => {
    await using opened = await database.open();
    await using world = new OperationsWorld(opened).start();
    world.isMute = true;
    const price = world.provider.offers[0]?.priceMicroUsdPerHour ?? 0;
    const id = await begin(world, { maxCostMicroUsd: Math.ceil(price / 6) });
    await eventually('a machine is awaited', async () => (await reportOf(world, id)).state === 'reaching');
    await world.runner[Symbol.asyncDispose]();
    // The control plane was away for an hour.
    await world.truth.query('update ledger set rented_at = rented_at - 3600000');
    const kinds = [anyKind(providerTestKind(world.parts))];
    await using next = new OperationRunner({ ...world.parts, kinds, owner: 'the next', leaseMs: 400_000 });
    next.start();
    expect((await next.waitFor(id, AbortSignal.timeout(20_000))).error).toContain('used up');
    expect(world.provider.machines.size).toBe(0);
  });

  test.each(['creating', 'booting', 'verifying', 'destroying'] as const)(
    'a control plane that ends at %s is followed by one that destroys',
    async (state) => {
      await using opened = await database.open();
      await using world = new OperationsWorld(opened).start();
      const { parts } = world;
      const id = await startProviderTest(parts, providerTestBodySchema.parse(AFFORDABLE));
      const kind = providerTestKind(parts);
      const stuck = new OperationRunner({
        ...parts,
        // It comes to the state, begins its work and says nothing more.
        kinds: [anyKind({ ...kind, steps: { ...kind.steps, [state]: withoutAnswer(kind.steps[state as 'booting']) } })],
        owner: 'the first',
        leaseMs: 400_000,
      });
      await world.runner[Symbol.asyncDispose]();
      stuck.start();
      await eventually(`the test is ${state}`, async () => (await reportOf(world, id)).steps.at(-1)?.step === state);
      await stuck[Symbol.asyncDispose]();
      const next = new OperationRunner({ ...parts, kinds: [anyKind(kind)], owner: 'the next', leaseMs: 400_000 });
      await using _next = next;
      next.start();
      expect((await next.waitFor(id, AbortSignal.timeout(20_000))).state).toBe('completed');
      const { steps, machines } = await reportOf(world, id);
      expect(steps.map(({ step }) => step)).toEqual(STEPS);
      // An order that was cut short may have a line in the ledger, and no machine.
      expect(machines.filter(({ rentedAtMs }) => rentedAtMs !== null)).toHaveLength(1);
      expect(world.provider.machines.size).toBe(0);
    },
  );
});

/** Does the work, and then waits to be ended. */
function withoutAnswer<Context extends { readonly signal: AbortSignal }, Answer>(
  step: (context: Context) => Promise<Answer>,
) {
  return async (context: Context): Promise<Answer> => {
    await step(context);
    return new Promise((_, reject) => {
      const end = () => reject(context.signal.reason as Error);
      if (context.signal.aborted) end();
      else context.signal.addEventListener('abort', end, { once: true });
    });
  };
}
