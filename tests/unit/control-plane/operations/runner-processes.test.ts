import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { findOperation } from '@dumont/control-plane/store/operations.ts';
import { listSteps } from '@dumont/control-plane/store/steps.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { onPostgres } from '../../../world/databases.ts';
import { createEffects, insertToy, toyKind } from './toy-kind.ts';

const LEASE_MS = 400;

function startProcess(url: string, stayMs: number) {
  const script = join(import.meta.dirname, 'toy-runner-process.ts');
  const child = spawn(process.execPath, [script, url, String(LEASE_MS), String(stayMs)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  return { child, lines: createInterface({ input: child.stdout }), exited: once(child, 'exit') };
}

async function finishHere(db: Database, id: OperationId) {
  await using running = new OperationRunner({
    db,
    clock: systemClock,
    random: seededRandom(1),
    log: createLogger('test', 'silent'),
    owner: 'survivor',
    kinds: [toyKind()],
    leaseMs: LEASE_MS,
    pollMs: 20,
  });
  running.start();
  return await running.waitFor(id, AbortSignal.timeout(20_000));
}

onPostgres((database) => {
  test.each(['first', 'second', 'third'])('a process killed in its %s step is succeeded by another', async (victim) => {
    await using opened = await database.open();
    await createEffects(opened.db);
    const id = await insertToy(opened.db, systemClock.nowMs());
    const { child, lines, exited } = startProcess(must(opened.url, 'PostgreSQL has one'), 50);
    for await (const line of lines) if (line === victim) child.kill('SIGKILL');
    await exited;
    const row = await finishHere(opened.db, id);
    expect(row).toMatchObject({ state: 'done', data: { trail: ['first', 'second', 'third'] } });
    expect((await listSteps(opened.db, id)).map((step) => step.step)).toEqual(['first', 'second', 'third']);
    expect(await listEvents(opened.db, { after: 0, limit: 50 })).toHaveLength(4);
  });

  test('a frozen process is succeeded by another, and what it writes when it wakes is refused', async () => {
    await using opened = await database.open();
    await createEffects(opened.db);
    const id = await insertToy(opened.db, systemClock.nowMs());
    // It stays in the step for less than a renewal takes, so that it wakes with a result and without the news.
    const { child, lines, exited } = startProcess(must(opened.url, 'PostgreSQL has one'), 100);
    for await (const line of lines) {
      if (line !== 'second') continue;
      child.kill('SIGSTOP');
      break;
    }
    const row = await finishHere(opened.db, id);
    expect(row.state).toBe('done');
    const steps = await listSteps(opened.db, id);
    child.kill('SIGCONT');
    child.stdin.end();
    expect(await exited).toEqual([0, null]);
    expect(await findOperation(opened.db, id)).toEqual(row);
    expect(await listSteps(opened.db, id)).toEqual(steps);
    expect(await listEvents(opened.db, { after: 0, limit: 50 })).toHaveLength(4);
  });
});
