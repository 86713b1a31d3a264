import { parseRevocationKey, REVOKED_PREFIX, revocationKey, revocationPrefix } from '@dumont/shared/format/layout.ts';
import type { SnapshotId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

/** Marks a store may hold: one or two per writer that was killed, ever. */
const MAX_MARKS = 1_000_000;

const NOTHING = new TextEncoder().encode('{}');

/** Marks against sessions, by snapshot id. */
export type Revocations = ReadonlyMap<SnapshotId, ReadonlySet<string>>;

/** All marks, or with `snapshotId` those against one session. @throws {DumontError} LIMIT */
export async function readRevocations(
  store: ObjectStore,
  options: CallOptions & { readonly snapshotId?: SnapshotId } = {},
): Promise<Revocations> {
  const { snapshotId, signal } = options;
  const found = new Map<SnapshotId, Set<string>>();
  let count = 0;
  const prefix = snapshotId === undefined ? REVOKED_PREFIX : revocationPrefix(snapshotId);
  for await (const { key } of store.list(prefix, { signal })) {
    const parsed = parseRevocationKey(key);
    if (parsed === null) continue;
    count += 1;
    if (count > MAX_MARKS) throw new DumontError('LIMIT', `the store holds more than ${MAX_MARKS} revoked sessions`);
    const marks = found.get(parsed.snapshotId);
    if (marks === undefined) found.set(parsed.snapshotId, new Set([parsed.mark]));
    else marks.add(parsed.mark);
  }
  return found;
}

/** True when no manifest of this session counts, whatever the store holds. */
export function isVoid(revocations: Revocations, snapshotId: SnapshotId): boolean {
  return revocations.get(snapshotId)?.has('void') === true;
}

/** Marks a session; `mark` is the id of a prune, `void` or `withdrawn`. Idempotent. */
export async function putRevocation(
  store: ObjectStore,
  { snapshotId, mark }: { readonly snapshotId: SnapshotId; readonly mark: string },
  options: CallOptions = {},
): Promise<void> {
  await store.put(revocationKey(snapshotId, mark), NOTHING, { ifAbsent: true, signal: options.signal });
}
