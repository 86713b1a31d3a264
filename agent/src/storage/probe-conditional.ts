import type { ConditionalPut } from '@dumont/shared/storage/storage-profile.ts';
import type { ObjectStore } from './object-store.ts';

/** What conditional puts are really worth at a service. */
export type ConditionalPutFinding = 'works' | 'unsupported' | 'ignored';

export interface ConditionalPutTrial {
  /** Sends the condition without looking first. */
  readonly store: ObjectStore;
  /** Where its objects lie. */
  readonly prefix: string;
  /** What the store thinks after its latest put: `no` once the service has said so. */
  readonly believes: () => ConditionalPut;
  /** Learns every key that is written. */
  readonly written: Set<string>;
  readonly signal: AbortSignal | undefined;
}

/** Simultaneous writers of one key: enough to show a service that looks and writes in two steps. */
const WRITERS = 4;

/** Writes to a taken key, and to a free one from several sides at once, and looks at what the service made of it. */
export async function probeConditionalPut(trial: ConditionalPutTrial): Promise<ConditionalPutFinding> {
  const { store, prefix, signal } = trial;
  const key = `${prefix}taken`;
  trial.written.add(key);
  await store.put(key, Buffer.from('first'), { ifAbsent: true, signal });
  await store.put(key, Buffer.from('other'), { ifAbsent: true, signal });
  if (trial.believes() === 'no') return 'unsupported';
  // What lies there counts, not what the service answered.
  if (Buffer.from(await store.get(key, { signal })).toString() !== 'first') return 'ignored';
  return (await countWinners(trial)) === 1 ? 'works' : 'ignored';
}

async function countWinners({ store, prefix, written, signal }: ConditionalPutTrial): Promise<number> {
  const key = `${prefix}race`;
  written.add(key);
  const writers = Array.from({ length: WRITERS }, (_, n) =>
    store.put(key, Buffer.from(`writer ${n}`), { ifAbsent: true, signal }),
  );
  const outcomes = await Promise.allSettled(writers);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value === 'stored').length;
}
