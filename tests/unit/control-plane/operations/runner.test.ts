import { expect, test } from 'vitest';
import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import { findOperation } from '@dumont/control-plane/store/operations.ts';
import { listSteps } from '@dumont/control-plane/store/steps.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { FaultyDatabase } from '../../../world/faulty-database.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { createEffects, effect, insertToy, toyKind, walk } from './toy-kind.ts';
import type { ToyStep } from './toy-kind.ts';
import { LEASE_MS, SMOOTH_HISTORY, finish, hangingStep, history, log, never, runner } from './toy-runner.ts';

onEachDatabase((database) => {
  test('an operation runs to its end, each step a timed row and each transition an event', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const progressed: OperationId[] = [];
    const kind = toyKind({
      second: async (context) => {
        await clock.advance(40);
        return { ...(await walk('second')(context)), detail: { bytes: 7 } };
      },
    });
    await using running = new OperationRunner({
      db: opened.db,
      clock,
      random: seededRandom(1),
      log,
      owner: 'one',
      kinds: [kind],
      onProgress: (operationId) => progressed.push(operationId),
    });
    running.start();
    const row = await running.waitFor(id, never);
    expect(row).toMatchObject({
      state: 'done',
      leaseOwner: null,
      error: null,
      data: { trail: ['first', 'second', 'third'] },
    });
    expect(row.finishedAtMs).toBe(clock.nowMs());
    const steps = await listSteps(opened.db, id);
    expect(steps.map((step) => [step.step, step.outcome, step.durationMs])).toEqual([
      ['first', 'advanced', 0],
      ['second', 'advanced', 40],
      ['third', 'advanced', 0],
    ]);
    expect(steps[1]?.detail).toEqual({ bytes: 7 });
    expect(await history(opened.db, id)).toEqual(SMOOTH_HISTORY);
    expect(progressed).toEqual([id, id, id]);
  });

  test.each(['before', 'after'] as const)(
    'a connection that breaks for ever %s any call leaves an operation another runner finishes, nothing recorded twice',
    async (when) => {
      await using opened = await database.open();
      await createEffects(opened.db);
      let crashes = 0;
      for (let call = 1; ; call += 1) {
        const clock = new ManualClock();
        const id = await insertToy(opened.db, clock.nowMs());
        const acting = (name: 'first' | 'second' | 'third'): ToyStep => {
          return async (context) => {
            await effect(opened.db, `${context.operationId} ${name}`, 'toy');
            await context.save({ ...context.data, reason: `saved in ${name}` });
            return { event: 'advanced', data: { trail: [...context.data.trail, name] } };
          };
        };
        const kind = toyKind({ first: acting('first'), second: acting('second'), third: acting('third') });
        const faulty = new FaultyDatabase(opened.db, call, when);
        {
          await using doomed = runner(faulty, kind, clock);
          doomed.start();
          await Promise.race([
            doomed.waitFor(id, never).catch(() => undefined),
            expect.poll(() => faulty.isBroken, { interval: 1 }).toBe(true),
          ]);
        }
        const isUndisturbed = !faulty.isBroken;
        clock.stepWall(LEASE_MS);
        const row = await finish(opened.db, kind, id, clock);
        // A step whose save fails is a failed step: its kind may give up, but never half-way.
        expect(['done', 'undone']).toContain(row.state);
        const lines = await history(opened.db, id);
        expect(new Set(lines).size).toBe(lines.length);
        expect(lines.at(-1)).toBe(`operation.finished ${row.state}`);
        const steps = await listSteps(opened.db, id);
        expect(steps.every((step) => step.endedAtMs !== null)).toBe(true);
        expect(steps.map((step) => step.step)).toEqual(lines.slice(0, -1).map((line) => line.split(' ')[0]));
        const effects = await opened.db.query('select key from effects where key like $1', [`${id}%`]);
        expect(effects).toHaveLength(steps.filter((step) => step.step !== 'undoing').length);
        if (isUndisturbed) break;
        crashes += 1;
        expect(crashes).toBeLessThan(40);
      }
      expect(crashes).toBeGreaterThan(8);
    },
  );

  test('several runners share many operations, each in one pair of hands at a time', async () => {
    await using opened = await database.open();
    const ids = await Promise.all(Array.from({ length: 30 }, () => insertToy(opened.db, systemClock.nowMs())));
    const inHand = new Set<string>();
    const exclusive = (name: string): ToyStep => {
      return async (context) => {
        expect(inHand.has(context.operationId)).toBe(false);
        inHand.add(context.operationId);
        await new Promise(setImmediate);
        inHand.delete(context.operationId);
        return walk(name)(context);
      };
    };
    const kind = toyKind({ first: exclusive('first'), second: exclusive('second'), third: exclusive('third') });
    const connections = await Promise.all([1, 2, 3].map(() => opened.connect()));
    {
      await using runners = new AsyncDisposableStack();
      const all = connections.map((db) => runners.use(runner(db, kind, systemClock)));
      for (const each of all) each.start();
      const rows = await Promise.all(ids.map((id, index) => must(all[index % 3], 'one of three').waitFor(id, never)));
      expect(rows.map((row) => row.data['trail'])).toEqual(ids.map(() => ['first', 'second', 'third']));
    }
    for (const db of connections) await db[Symbol.asyncDispose]();
    for (const id of ids) expect(await history(opened.db, id)).toEqual(SMOOTH_HISTORY);
  });

  test('a runner whose lease lapsed stops at once and writes nothing more', async () => {
    await using opened = await database.open();
    const slowClock = new ManualClock();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const hanging = hangingStep();
    let lateSave: Promise<unknown> = Promise.resolve();
    const stubborn: ToyStep = async (context) => {
      await hanging.step(context).catch(() => undefined);
      lateSave = context.save({ trail: ['late save'] }).catch((error: unknown) => error);
      await lateSave;
      return { event: 'advanced', data: { trail: ['late result'] } };
    };
    const slow = runner(opened.db, toyKind({ second: stubborn }), slowClock);
    slow.start();
    await hanging.entered;
    clock.stepWall(LEASE_MS);
    const row = await finish(opened.db, toyKind(), id, clock);
    expect(row.data['trail']).toEqual(['first', 'second', 'third']);
    // The slow one wakes up: its next renewal is refused, and its step is told to stop.
    await slowClock.advance(Math.ceil(LEASE_MS / 3));
    await slow[Symbol.asyncDispose]();
    expect(await lateSave).toMatchObject({ code: 'ABORTED' });
    expect(await findOperation(opened.db, id)).toEqual(row);
    expect(await history(opened.db, id)).toEqual(SMOOTH_HISTORY);
  });

  test('a long wait gives the operation back until it is due, a crash does not shorten it, and an interrupt still reaches it', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const [patient, cancelled] = [await insertToy(opened.db, clock.nowMs()), await insertToy(opened.db, clock.nowMs())];
    const first: ToyStep = async (context) => ({ ...(await walk('first')(context)), retryAfterMs: 60_000 });
    const kind = toyKind({ first });
    {
      await using running = runner(opened.db, kind, clock);
      running.start();
      for (const id of [patient, cancelled]) {
        await expect.poll(() => findOperation(opened.db, id)).toMatchObject({ state: 'second', leaseOwner: null });
      }
    }
    clock.stepWall(59_999);
    await using running = runner(opened.db, kind, clock);
    running.start();
    expect(await running.interrupt(cancelled, 'cancelled')).toBe(true);
    expect((await running.waitFor(cancelled, never)).state).toBe('undone');
    expect(await findOperation(opened.db, patient)).toMatchObject({ state: 'second', leaseOwner: null });
    clock.stepWall(1);
    running.nudge();
    expect((await running.waitFor(patient, never)).state).toBe('done');
    // The wait belongs to the step it delayed; no process saw all of it, so the wall clock measured.
    expect((await listSteps(opened.db, patient))[1]).toMatchObject({ step: 'second', durationMs: 60_000 });
  });

  test('a retryable error repeats the step in place, five times at most, then the kind decides', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const ids = [await insertToy(opened.db, clock.nowMs()), await insertToy(opened.db, clock.nowMs())];
    const runs = new Map<string, number>();
    const second: ToyStep = (context) => {
      const run = (runs.get(context.operationId) ?? 0) + 1;
      runs.set(context.operationId, run);
      // Nobody else moves this clock: the pauses between the attempts pass at once.
      queueMicrotask(() => setImmediate(() => void clock.advance(5_000)));
      if (context.operationId === ids[0] && run === 4) return walk('second')(context);
      throw new DumontError('UNAVAILABLE', 'the market is closed', { retryable: true });
    };
    const kind = toyKind({ second });
    const rows = [];
    for (const id of ids) rows.push(await finish(opened.db, kind, id, clock));
    expect(rows[0]).toMatchObject({ state: 'done', error: null });
    expect(rows[1]).toMatchObject({ state: 'undone', error: 'gave up: the market is closed' });
    expect(ids.map((id) => runs.get(id))).toEqual([4, 5]);
  });

  test('an error that is not retryable goes to the kind at once', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    let runs = 0;
    const second: ToyStep = () => {
      runs += 1;
      throw new TypeError('a defect');
    };
    const row = await finish(opened.db, toyKind({ second }), id, clock);
    expect(row).toMatchObject({ state: 'undone', error: 'gave up: step second: a defect' });
    expect(runs).toBe(1);
  });

  test('a step may stay in its state, under the same row, and start over under a new one', async () => {
    await using opened = await database.open();
    const clock = systemClock;
    const id = await insertToy(opened.db, clock.nowMs());
    let runs = 0;
    const first: ToyStep = async (context) => {
      runs += 1;
      if (runs === 1) return { ...(await walk('asked')(context)), event: 'repeat' };
      return walk('first')(context);
    };
    let polls = 0;
    const third: ToyStep = (context) => {
      polls += 1;
      return polls < 3 ? Promise.resolve({ event: 'repeat', data: context.data }) : walk('third')(context);
    };
    await finish(opened.db, toyKind({ first, third }), id, clock);
    expect((await listSteps(opened.db, id)).map((step) => step.step)).toEqual(['first', 'first', 'second', 'third']);
    expect(polls).toBe(3);
    expect(await history(opened.db, id)).toEqual(['first repeat first', ...SMOOTH_HISTORY]);
  });

  test('an orderly shutdown stops the step and another runner goes on at once, in the same row', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const hanging = hangingStep();
    const stopped = runner(opened.db, toyKind({ second: hanging.step }), clock);
    stopped.start();
    await hanging.entered;
    await stopped[Symbol.asyncDispose]();
    await stopped[Symbol.asyncDispose]();
    expect(await findOperation(opened.db, id)).toMatchObject({ state: 'second', leaseOwner: null });
    // No time passes: the lease is not waited for.
    expect((await finish(opened.db, toyKind(), id, clock)).state).toBe('done');
    expect((await listSteps(opened.db, id)).map((step) => step.step)).toEqual(['first', 'second', 'third']);
  });

  test('waiting for an operation sees it end in another process, and can be given up', async () => {
    await using opened = await database.open();
    const id = await insertToy(opened.db, systemClock.nowMs());
    await using watching = new OperationRunner({
      db: opened.db,
      clock: systemClock,
      random: seededRandom(1),
      log,
      owner: 'watcher',
      kinds: [],
      pollMs: 5,
    });
    const waiting = watching.waitFor(id, never);
    const givenUp = watching.waitFor(id, AbortSignal.timeout(10));
    await expect(givenUp).rejects.toMatchObject({ name: 'TimeoutError' });
    await expect(watching.waitFor(newId('operation'), never)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await finish(opened.db, toyKind(), id, new ManualClock(systemClock.nowMs()));
    expect((await waiting).state).toBe('done');
  });

  test('operations of another version are left alone, and unreadable ones set aside', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const [foreign, broken] = [await insertToy(opened.db, clock.nowMs()), await insertToy(opened.db, clock.nowMs())];
    await opened.db.query(`update operations set kind = 'teleport' where id = $1`, [foreign]);
    await opened.db.query(`update operations set data = '{"trail": 3}' where id = $1`, [broken]);
    await using running = runner(opened.db, toyKind(), clock);
    running.start();
    await expect.poll(async () => (await findOperation(opened.db, broken))?.runAtMs).toBeGreaterThan(clock.nowMs());
    expect(await findOperation(opened.db, foreign)).toMatchObject({ leaseOwner: null, runAtMs: 0 });
    expect(await running.interrupt(foreign, 'cancelled')).toBe(false);
  });
});

test('a kind whose steps and ends disagree is refused', () => {
  const first = toyKind().steps['first'];
  expect(() => toyKind({ done: first } as never)).toThrow(/done needs a step or an end, not both/);
});
