import { OperationRunner } from '@dumont/control-plane/operations/runner.ts';
import type { AnyKind } from '@dumont/control-plane/operations/operation-kind.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import type { OperationId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import type { ToyStep } from './toy-kind.ts';

export const log = createLogger('test', 'silent');
export const LEASE_MS = 5_000;
/** Of callers that wait as long as the test lets them. */
export const never = new AbortController().signal;
let owners = 0;

export function runner(db: Database, kind: AnyKind, clock: Clock) {
  owners += 1;
  const owner = `runner-${owners}`;
  return new OperationRunner({ db, clock, random: seededRandom(owners), log, owner, kinds: [kind], leaseMs: LEASE_MS });
}

/** Runs one operation from start to end and returns its row. */
export async function finish(db: Database, kind: AnyKind, id: OperationId, clock: Clock) {
  await using running = runner(db, kind, clock);
  running.start();
  return await running.waitFor(id, never);
}

/** A step that says when it runs and then waits for its signal, ending as a well-behaved step does. */
export function hangingStep() {
  const entered = Promise.withResolvers<void>();
  let runs = 0;
  const step: ToyStep = (context) => {
    runs += 1;
    entered.resolve();
    return new Promise((_, reject) => {
      context.signal.addEventListener('abort', () => reject(context.signal.reason as Error));
    });
  };
  return { step, entered: entered.promise, runs: () => runs };
}

export async function history(db: Database, id: OperationId) {
  const events = (await listEvents(db, { after: 0, limit: 500 })).filter((event) => event.operationId === id);
  return events.map((event) =>
    event.type === 'operation.step'
      ? `${String(event.data['from'])} ${String(event.data['event'])} ${String(event.data['to'])}`
      : `${event.type} ${String(event.data['state'])}`,
  );
}

export const SMOOTH_HISTORY = [
  'first advanced second',
  'second advanced third',
  'third advanced done',
  'operation.finished done',
];
