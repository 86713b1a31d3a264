import { setTimeout as sleep } from 'node:timers/promises';
import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import { openPostgres } from '@dumont/control-plane/store/postgres.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { effect, toyKind, walk } from './toy-kind.ts';
import type { ToyStep } from './toy-kind.ts';

/**
 * A control plane's runner as a process of its own, to be killed or frozen: prints each step it enters, stays in it for
 * a moment whatever its signal says, and ends in good order when its standard input ends.
 */
const [databaseUrl = '', leaseMs = '0', stayMs = '0'] = process.argv.slice(2);

const slow = (name: string): ToyStep => {
  return async (context) => {
    await effect(db, `${context.operationId} ${name}`, String(process.pid));
    process.stdout.write(`${name}\n`);
    await sleep(Number(stayMs));
    return walk(name)(context);
  };
};

await using db = await openPostgres(databaseUrl);
await using runner = new OperationRunner({
  db,
  clock: systemClock,
  random: systemRandom,
  log: createLogger('toy', 'silent'),
  owner: `process-${process.pid}`,
  kinds: [toyKind({ first: slow('first'), second: slow('second'), third: slow('third') })],
  leaseMs: Number(leaseMs),
  pollMs: 20,
});
runner.start();
for await (const _ of process.stdin) {
  // Only its end matters.
}
