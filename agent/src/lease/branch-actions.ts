import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { DirtyMark } from '../workspace/dirty-set.ts';
import type { WorkOptions, WorkspaceEngine } from './engine.ts';
import type { Publisher } from './publisher.ts';

type ActionNamed<Name extends Action['name']> = Extract<Action, { readonly name: Name }>;
type ResultOf<Name extends Action['name']> = Extract<ActionResult, { readonly name: Name }>;

/** Stores what a fenced machine's folder holds on top of its last snapshot; the control plane makes it a branch, or not. */
export async function harvest(
  { epoch, base }: ActionNamed<'harvest'>,
  engine: WorkspaceEngine,
  options: WorkOptions,
): Promise<ResultOf<'harvest'>> {
  const outcome = await engine.create({ ...options, epoch, parent: base, changed: 'everything' });
  if (outcome.kind === 'unchanged') return { name: 'harvest', record: null, summary: null };
  const { record } = outcome;
  const summary = await engine.compare({ base, snapshot: record, signal: options.signal });
  return { name: 'harvest', record, summary };
}

/** Snapshots the folder as it is, brings the branch's files in, and snapshots it again. */
export async function mergeBranch(
  action: ActionNamed<'merge-branch'>,
  primary: {
    readonly engine: WorkspaceEngine;
    readonly publisher: Publisher;
    readonly dirty: { restore(mark: DirtyMark): void };
    readonly clock: Clock;
  },
  options: WorkOptions,
): Promise<ResultOf<'merge-branch'>> {
  const { engine, publisher, dirty, clock } = primary;
  await publisher.publishNow();
  const { head } = publisher;
  const merged = await engine.merge({ ...action, ...options, head });
  // The watcher is a few milliseconds behind what was just put there.
  dirty.restore({ paths: 'everything', sinceMonotonicMs: clock.monotonicMs() });
  const record = await publisher.publishNow();
  const snapshotBefore = head?.snapshotId ?? null;
  return { name: 'merge-branch', merge: { ...merged, snapshotBefore, snapshotAfter: record?.snapshotId ?? null } };
}
