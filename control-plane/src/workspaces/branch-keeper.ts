import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import type { RemoveObject } from '../storage/remove-object.ts';
import type { BranchRow } from '../store/branches.ts';
import { listExpiredBranches, listUnremovedBranches, markDeleted, markRemoved } from '../store/branches.ts';
import type { Database } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';

/** Branches live for days. */
const PERIOD_MS = 60_000;
/** Of one round; the next goes on. */
const MAX_PER_ROUND = 100;

export interface BranchKeeperParts {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  readonly removeObject: RemoveObject;
  /** Called after each commit that appended events. */
  readonly onChange: () => void;
}

/**
 * Deletes branches that are past their age, and removes the manifests of deleted ones from the object store: from then
 * on a prune takes what nothing else needs. Decided anew in each round from the database, so it may be killed at any point.
 */
export class BranchKeeper implements AsyncDisposable {
  readonly #parts: BranchKeeperParts;
  readonly #stop = new AbortController();
  readonly #nudged = new Bell();
  #loop: Promise<void> | undefined;

  constructor(parts: BranchKeeperParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Ends a branch for good; repeating it changes nothing. */
  async delete(branch: BranchRow): Promise<BranchRow> {
    const deleted = await this.#end(branch, 'a user deleted it');
    this.#nudged.ring();
    return deleted ?? branch;
  }

  /** One round; what `start` repeats. A store that does not answer leaves the rest for the next. */
  async round(): Promise<void> {
    const { db, clock, removeObject } = this.#parts;
    const { signal } = this.#stop;
    for (const branch of await listExpiredBranches(db, { nowMs: clock.nowMs(), limit: MAX_PER_ROUND })) {
      await this.#end(branch, 'it reached its age');
    }
    for (const { id, workspaceId, record } of await listUnremovedBranches(db, { limit: MAX_PER_ROUND })) {
      await removeObject(workspaceId, record.manifestKey, { signal });
      await markRemoved(db, id, clock.nowMs());
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#parts;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const nudged = this.#nudged.wait({ clock, atMostMs: PERIOD_MS, signal }).catch(() => {});
      try {
        await this.round();
      } catch (error) {
        if (!signal.aborted) {
          log.warn({ event: 'branches.round', err: toDumontError(error) }, 'branches not looked after, will try again');
        }
      }
      await nudged;
    }
  }

  /** @returns undefined when it was deleted before */
  async #end({ id: branchId, workspaceId, instanceId }: BranchRow, reason: string): Promise<BranchRow | undefined> {
    const { db, clock, onChange } = this.#parts;
    const deleted = await db.transaction(async (tx) => {
      const atMs = clock.nowMs();
      const row = await markDeleted(tx, branchId, atMs);
      if (row === undefined) return undefined;
      await appendEvent(tx, { type: 'branch.deleted', atMs, workspaceId, instanceId, data: { branchId, reason } });
      return row;
    });
    onChange();
    return deleted;
  }
}
