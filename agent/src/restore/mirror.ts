import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import { isDumontError, type DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { findLatest } from '../snapshot/catalogue.ts';
import type { StoreSecrets } from '../snapshot/seal.ts';
import { RestoreMemory } from './restore-memory.ts';
import { restoreSnapshot, type RestoreOptions, type RestoreOutcome } from './restorer.ts';

/** Waits after a failure: from the interval up to this. */
const MAX_BACKOFF_MS = 60_000;

export interface MirrorOptions extends Omit<RestoreOptions, 'snapshot' | 'secrets' | 'memory' | 'signal'> {
  readonly workspaceId: WorkspaceId;
  readonly random: Random;
  /** The keys a snapshot is encrypted under; of a store in clear, null. */
  readonly secretsFor: (snapshot: SnapshotRef) => Promise<StoreSecrets | null>;
  /** Between two looks for a new snapshot. */
  readonly intervalMs: number;
  /** Called after every snapshot that is in its place. */
  readonly onApplied: (outcome: RestoreOutcome) => void;
  /** Called when a look or a restore failed and is tried again. */
  readonly onOutage: (error: DumontError) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Makes a folder follow a workspace: restores its newest snapshot, then each newer one, of which only the difference is
 * fetched and only changed files are written. Returns when the signal fires. A store that does not answer, holds nothing
 * yet, or a pack that is gone because the snapshot was replaced and pruned meanwhile, is waited for.
 * @returns how many snapshots were applied
 * @throws {DumontError} what waiting does not mend: USAGE, UNAUTHORIZED, CONFLICT, LIMIT, IO, UNSUPPORTED
 */
export async function mirrorWorkspace(options: MirrorOptions): Promise<number> {
  const { store, workspaceId, clock, random, intervalMs, onApplied, onOutage, signal } = options;
  const memory = new RestoreMemory();
  let applied: SnapshotRef | null = null;
  let appliedCount = 0;
  let failures = 0;
  while (!signal.aborted) {
    let waitMs = intervalMs;
    try {
      const latest: SnapshotRef | null = await findLatest(store, workspaceId, { signal });
      if (latest !== null && latest.manifestHash !== applied?.manifestHash) {
        const secrets = await options.secretsFor(latest);
        const outcome = await restoreSnapshot({ ...options, snapshot: latest, secrets, memory });
        applied = latest;
        appliedCount += 1;
        onApplied(outcome);
      }
      failures = 0;
    } catch (error) {
      if (signal.aborted) break;
      if (!isDumontError(error) || !mayPass(error)) throw error;
      onOutage(error);
      waitMs = backoffMs(failures, { baseMs: intervalMs, capMs: Math.max(intervalMs, MAX_BACKOFF_MS) }, random);
      failures += 1;
    }
    await clock.sleep(waitMs, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }
  return appliedCount;
}

function mayPass(error: DumontError): boolean {
  return error.retryable || ['UNAVAILABLE', 'TIMEOUT', 'NOT_FOUND', 'CORRUPT'].includes(error.code);
}
