import { appendFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import { RetryStore } from '@dumont/agent/storage/retry-store.ts';
import { fastClock } from '../../world/fast-clock.ts';
import { WrappedStore, type AroundCall } from '../../world/wrapped-store.ts';
import { applyTree, LIVE_LOG, liveLine, treeAt, type TrialTree } from './trial-tree.ts';

/** What the parent asks for, as JSON in the first argument. */
export interface TrialOrder {
  readonly seed: number;
  readonly isHeavy: boolean;
  readonly steps: number;
  readonly root: string;
  readonly grant: StorageGrant;
  readonly workspaceId: WorkspaceId;
  /** The moment of death: so many turns of the event loop after a call of the store begins or ends; null to live. */
  readonly death: { readonly call: number; readonly phase: 'begin' | 'end'; readonly turns: number } | null;
}

/** Pauses between attempts take so much less than in production. */
const RETRY_SPEEDUP = 500;
/** Shares of calls that fail before, and after, their work is done. */
const FAILS_BEFORE = 0.06;
const FAILS_AFTER = 0.04;

/** More in a row than chance gives. */
const MAX_FAILURES = 5;

/**
 * Takes snapshots of a changing folder to a store with faults, says so on stdout, and kills itself, as only SIGKILL
 * does, in the moment it was told.
 */
async function main(order: TrialOrder): Promise<void> {
  const { seed, root, steps, isHeavy, workspaceId, death } = order;
  const retrying = { clock: fastClock(RETRY_SPEEDUP), random: seededRandom(seed) };
  await using opened = await openStore(order.grant, retrying);
  let calls = 0;
  let lines = 0;
  const dieAfter = async (turns: number) => {
    for (let turn = 0; turn < turns; turn += 1) await nextTurn();
    process.kill(process.pid, 'SIGKILL');
  };
  const deadly: AroundCall = async (_, proceed) => {
    calls += 1;
    const isLast = death !== null && calls === death.call;
    appendFileSync(join(root, LIVE_LOG), liveLine(lines));
    lines += 1;
    if (isLast && death.phase === 'begin') void dieAfter(death.turns);
    try {
      return await proceed();
    } finally {
      if (isLast && death.phase === 'end') void dieAfter(death.turns);
    }
  };
  const faulty = new WrappedStore(opened, faults(seed));
  const store = new WrappedStore(new RetryStore(faulty, retrying), deadly);
  const parts = { store, root, workspaceId, writerId: 'child', clock: systemClock, toolVersion: 'test' };
  const snapshotter = new Snapshotter(parts);
  let tree: TrialTree = new Map();
  let parent: SnapshotRecord | null = null;
  for (let step = 1; step <= steps; step += 1) {
    const next = treeAt(seed, step, isHeavy);
    await applyTree(root, tree, next);
    tree = next;
    const outcome = await insistently(() => snapshotter.create({ epoch: 1, parent }));
    if (outcome.kind !== 'created') throw new Error('every step changes something');
    parent = outcome.record;
    writeSync(1, `${JSON.stringify({ step, calls })}\n`);
  }
}

/** As the agent does: what may pass is tried again. */
async function insistently<Result>(attempt: () => Promise<Result>): Promise<Result> {
  for (let failures = 0; ; failures += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!isDumontError(error) || !error.retryable || failures === MAX_FAILURES) throw error;
    }
  }
}

function faults(seed: number): AroundCall {
  const random = seededRandom(seed + 1);
  const fail = () => {
    throw new DumontError('UNAVAILABLE', 'a fault of the test', { retryable: true });
  };
  return async (_, proceed) => {
    const draw = random.next();
    if (draw < FAILS_BEFORE) fail();
    const result = await proceed();
    if (draw > 1 - FAILS_AFTER) fail();
    return result;
  };
}

await main(JSON.parse(process.argv[2] ?? '') as TrialOrder);
