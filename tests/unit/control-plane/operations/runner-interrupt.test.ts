import { expect, test } from 'vitest';
import { listSteps } from '@dumont/control-plane/store/steps.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { insertToy, toyKind, walk } from './toy-kind.ts';
import type { ToyStep } from './toy-kind.ts';
import { SMOOTH_HISTORY, hangingStep, history, never, runner } from './toy-runner.ts';

onEachDatabase((database) => {
  test('an interrupt aborts the running step and takes the place of its result', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const hanging = hangingStep();
    await using running = runner(opened.db, toyKind({ second: hanging.step }), clock);
    running.start();
    await hanging.entered;
    expect(await running.interrupt(id, 'cancelled', { reason: 'the beats returned' })).toBe(true);
    const row = await running.waitFor(id, never);
    expect(row).toMatchObject({ state: 'undone', data: { trail: ['first', 'undoing'], reason: 'the beats returned' } });
    const steps = await listSteps(opened.db, id);
    expect(steps[1]).toMatchObject({ step: 'second', outcome: 'cancelled', detail: { isInterrupt: true } });
    expect(await running.interrupt(id, 'cancelled')).toBe(false);
  });

  test('what a step learned while it was being interrupted is kept', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const hanging = hangingStep();
    const renting: ToyStep = async (context) => {
      await hanging.step(context).catch(() => undefined);
      return { event: 'advanced', data: { trail: [...context.data.trail, 'rented'] } };
    };
    await using running = runner(opened.db, toyKind({ second: renting }), clock);
    running.start();
    await hanging.entered;
    expect(await running.interrupt(id, 'cancelled')).toBe(true);
    const row = await running.waitFor(id, never);
    expect(row.data['trail']).toEqual(['first', 'rented', 'undoing']);
  });

  test('an interrupt that the kind declines lets the step run again', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const hanging = hangingStep();
    const second: ToyStep = (context) => (hanging.runs() === 0 ? hanging.step(context) : walk('second')(context));
    const judged: unknown[] = [];
    const kind = toyKind({ second }, async (tx, interrupt) => {
      judged.push({ ...interrupt, rows: await tx.query('select 1 as one') });
      return false;
    });
    await using running = runner(opened.db, kind, clock);
    running.start();
    await hanging.entered;
    expect(await running.interrupt(id, 'cancelled', { reason: 'too late' })).toBe(false);
    const row = await running.waitFor(id, never);
    expect(row.data).toEqual({ trail: ['first', 'second', 'third'] });
    expect(judged).toMatchObject([
      { state: 'second', event: 'cancelled', data: { reason: 'too late' }, rows: [{ one: 1 }] },
    ]);
    expect(await history(opened.db, id)).toEqual(SMOOTH_HISTORY);
  });

  test('an interrupt that the state does not answer to disturbs nothing', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const entered = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    let wasAborted: boolean | undefined;
    const third: ToyStep = async (context) => {
      entered.resolve();
      await goOn.promise;
      wasAborted = context.signal.aborted;
      return walk('third')(context);
    };
    await using running = runner(opened.db, toyKind({ third }), clock);
    running.start();
    await entered.promise;
    expect(await running.interrupt(id, 'cancelled')).toBe(false);
    expect(await running.interrupt(id, 'no such event')).toBe(false);
    goOn.resolve();
    await running.waitFor(id, never);
    expect(wasAborted).toBe(false);
  });

  test('an interrupt whose patch breaks the data is refused to its sender, and the operation goes on', async () => {
    await using opened = await database.open();
    const clock = new ManualClock();
    const id = await insertToy(opened.db, clock.nowMs());
    const hanging = hangingStep();
    const second: ToyStep = (context) => (hanging.runs() === 0 ? hanging.step(context) : walk('second')(context));
    await using running = runner(opened.db, toyKind({ second }), clock);
    running.start();
    await hanging.entered;
    await expect(running.interrupt(id, 'cancelled', { reason: 7 })).rejects.toMatchObject({
      code: 'USAGE',
      field: 'reason',
    });
    expect((await running.waitFor(id, never)).state).toBe('done');
  });
});
