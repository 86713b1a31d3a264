import type { Clock } from '@dumont/shared/util/clock.ts';
import { forEachBounded } from '../storage/for-each-bounded.ts';
import { throwIfAborted } from '../storage/object-store.ts';
import { FetchLimit } from './fetch-limit.ts';
import type { PlannedJob, PlannedRange } from './plan.ts';

/** Bytes fetched, or being fetched, that no thread is done with; with what the threads hold it bounds the memory. */
const MAX_HELD_BYTES = 32 * 1024 * 1024;

/** Ranges of one job fetched at once; nearly all jobs have one or two. */
const MAX_RANGES_AT_ONCE = 16;

export interface JobSteps<Use> {
  /** One range's bytes. @param signal not wanted any more; absent where nobody else has them */
  fetch(range: PlannedRange, signal?: AbortSignal): Promise<Uint8Array>;
  /** Gets a job's bytes in another way too; absent: by its ranges alone. */
  gather?(
    job: PlannedJob<Use>,
    fromStore: (signal?: AbortSignal) => Promise<readonly Uint8Array[]>,
  ): Promise<{ readonly job: PlannedJob<Use>; readonly buffers: readonly Uint8Array[] }>;
  /** What is done with a job once all its ranges are there. */
  use(job: PlannedJob<Use>, buffers: readonly Uint8Array[]): Promise<void>;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Fetches jobs in their order, as many at once as pay and fit the memory, and hands each on when it is there. After the
 * first failure nothing new is started; it returns or throws that failure when all that was started has ended.
 */
export async function runJobs<Use>(jobs: readonly PlannedJob<Use>[], steps: JobSteps<Use>): Promise<void> {
  const limit = new FetchLimit(steps.clock);
  let fetching = 0;
  let heldBytes = 0;
  const failures: unknown[] = [];
  let changed = Promise.withResolvers<void>();
  const ring = () => {
    changed.resolve();
    changed = Promise.withResolvers();
  };
  const running = new Set<Promise<void>>();
  const run = async (job: PlannedJob<Use>) => {
    let isFetching = true;
    const fetched = () => {
      if (isFetching) fetching -= job.ranges.length;
      isFetching = false;
      ring();
    };
    try {
      throwIfAborted(steps.signal);
      const fromStore = async (signal?: AbortSignal) => {
        const buffers: Uint8Array[] = [];
        await forEachBounded(job.ranges.entries(), MAX_RANGES_AT_ONCE, async ([index, range]) => {
          buffers[index] = await steps.fetch(range, signal);
        });
        return buffers;
      };
      const got = await (steps.gather?.(job, fromStore) ?? fromStore().then((buffers) => ({ job, buffers })));
      limit.onFetched(job.bytes);
      fetched();
      await steps.use(got.job, got.buffers);
    } catch (error) {
      failures.push(error);
    } finally {
      fetched();
      heldBytes -= job.bytes;
      ring();
    }
  };
  for (const job of jobs) {
    const mustWait = () =>
      (fetching > 0 && fetching + job.ranges.length > limit.current) ||
      (heldBytes > 0 && heldBytes + job.bytes > MAX_HELD_BYTES);
    while (failures.length === 0 && mustWait()) await changed.promise;
    if (failures.length > 0) break;
    fetching += job.ranges.length;
    heldBytes += job.bytes;
    const one = run(job);
    running.add(one);
    void one.then(() => running.delete(one));
  }
  await Promise.all(running);
  if (failures.length > 0) throw failures[0];
}
