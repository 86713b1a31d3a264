import type { SnapshotId, WorkspaceId } from '../model/ids.ts';
import { assert } from '../util/assert.ts';

/** Version of everything stored: key layout, packs and manifests. A reader refuses what is newer. */
export const FORMAT_VERSION = 1;

/** Every pack lies under this prefix, named by 128 random bits drawn before its first byte is known. */
export const PACKS_PREFIX = 'packs/';
/** Tables of which chunk lies in which pack, for writers; rebuildable from the packs. */
export const INDEX_PREFIX = 'index/';
/** Writers at work, by the id of the snapshot they make. */
export const SESSIONS_PREFIX = 'sessions/';
/** What pruners are about to delete and have deleted. */
export const PRUNES_PREFIX = 'prunes/';
/** Marks against sessions that may not commit. */
export const REVOKED_PREFIX = 'revoked/';
/** Wrapped keys of an encrypted store. */
export const KEYS_PREFIX = 'keys/';

/** Ids of packs, index objects, prunes and keys: 128 random bits. */
const RANDOM_ID_PATTERN = /^[0-9a-f]{32}$/;
const NAMED_MARKS: ReadonlySet<string> = new Set(['void', 'withdrawn']);
const SNAPSHOT_ID_PATTERN = /^sn_[0-9a-hjkmnp-tv-z]{20}$/;
const WRITER_PATTERN = /^[a-z0-9_]{1,64}$/;
/** Every manifest of every workspace lies under this prefix. */
export const MANIFESTS_PREFIX = 'manifests/';
const NAME_PATTERN =
  /^manifests\/(ws_[0-9a-hjkmnp-tv-z]{20})\/(\d{10})-(\d{12})-(sn_[0-9a-hjkmnp-tv-z]{20})-([a-z0-9_]{1,64})$/;
const MAX_EPOCH = 9_999_999_999;
const MAX_SEQ = 999_999_999_999;

/** What a manifest's key says without reading it. */
export interface ManifestName {
  readonly workspaceId: WorkspaceId;
  readonly epoch: number;
  /** One more than the parent's; ascending within an epoch. */
  readonly seq: number;
  readonly snapshotId: SnapshotId;
  /** Who wrote it: an instance id, or any `[a-z0-9_]{1,64}`. */
  readonly writerId: string;
}

/** Key of a pack. */
export function packKey(packId: string): string {
  return randomKey(PACKS_PREFIX, packId);
}

/** Id of a pack from its key; null for any other key. */
export function parsePackKey(key: string): string | null {
  return parseRandomKey(PACKS_PREFIX, key);
}

/** Key of an index object. */
export function indexKey(indexId: string): string {
  return randomKey(INDEX_PREFIX, indexId);
}

/** Id of an index object from its key; null for any other key. */
export function parseIndexKey(key: string): string | null {
  return parseRandomKey(INDEX_PREFIX, key);
}

/** Key of a wrapped master key. */
export function wrappedKeyKey(keyId: string): string {
  return randomKey(KEYS_PREFIX, keyId);
}

/** Id of a wrapped master key from its key; null for any other key. */
export function parseWrappedKeyKey(key: string): string | null {
  return parseRandomKey(KEYS_PREFIX, key);
}

/** Key of the object that announces the writer of a snapshot. */
export function sessionKey(snapshotId: SnapshotId): string {
  return `${SESSIONS_PREFIX}${snapshotId}`;
}

/** Inverse of {@link sessionKey}; null for any other key. */
export function parseSessionKey(key: string): SnapshotId | null {
  const id = key.startsWith(SESSIONS_PREFIX) ? key.slice(SESSIONS_PREFIX.length) : '';
  return SNAPSHOT_ID_PATTERN.test(id) ? (id as SnapshotId) : null;
}

/** Key of the list of packs that a prune is about to delete. */
export function planKey(pruneId: string): string {
  return `${randomKey(PRUNES_PREFIX, pruneId)}/plan`;
}

/** Id of a prune from the key of its plan; null for any other key. */
export function parsePlanKey(key: string): string | null {
  return key.endsWith('/plan') ? parseRandomKey(PRUNES_PREFIX, key.slice(0, -'/plan'.length)) : null;
}

/**
 * Why a session may not commit: a prune that no longer waits for it, by the id of the prune; `void` once a prune has
 * found no manifest of it, for good; `withdrawn` by its own writer, which never began to write a manifest.
 */
type RevocationMark = 'void' | 'withdrawn' | (string & {});

/** Below it lie all marks against one session. */
export function revocationPrefix(snapshotId: SnapshotId): string {
  return `${REVOKED_PREFIX}${snapshotId}/`;
}

/** Key of one mark against a session. */
export function revocationKey(snapshotId: SnapshotId, mark: RevocationMark): string {
  assert(NAMED_MARKS.has(mark) || RANDOM_ID_PATTERN.test(mark), 'a mark is a name or the id of a prune');
  return revocationPrefix(snapshotId) + mark;
}

/** Inverse of {@link revocationKey}; null for any other key. */
export function parseRevocationKey(key: string): { readonly snapshotId: SnapshotId; readonly mark: string } | null {
  const [prefix = '', id = '', mark = '', ...rest] = key.split('/');
  if (`${prefix}/` !== REVOKED_PREFIX || !SNAPSHOT_ID_PATTERN.test(id) || rest.length > 0) return null;
  if (!NAMED_MARKS.has(mark) && !RANDOM_ID_PATTERN.test(mark)) return null;
  return { snapshotId: id as SnapshotId, mark };
}

function randomKey(prefix: string, id: string): string {
  assert(RANDOM_ID_PATTERN.test(id), 'the id is 32 hexadecimal digits');
  return `${prefix}${id}`;
}

function parseRandomKey(prefix: string, key: string): string | null {
  const id = key.startsWith(prefix) ? key.slice(prefix.length) : '';
  return RANDOM_ID_PATTERN.test(id) ? id : null;
}

/** Where a workspace's manifests lie; keys below it sort by epoch, then by sequence number. */
export function manifestPrefix(workspaceId: WorkspaceId): string {
  return `${MANIFESTS_PREFIX}${workspaceId}/`;
}

/**
 * Key of a manifest. The snapshot id makes it unique even when two writers, or one writer after a refused commit, take
 * the same sequence number: no key is ever written twice with other bytes.
 */
export function manifestKey(name: ManifestName): string {
  assert(name.epoch >= 0 && name.epoch <= MAX_EPOCH, 'the epoch fits ten digits');
  assert(name.seq >= 1 && name.seq <= MAX_SEQ, 'the sequence number fits twelve digits');
  assert(WRITER_PATTERN.test(name.writerId), 'a writer id is 1 to 64 of a-z, 0-9 and _');
  const epoch = String(name.epoch).padStart(10, '0');
  const seq = String(name.seq).padStart(12, '0');
  return `${manifestPrefix(name.workspaceId)}${epoch}-${seq}-${name.snapshotId}-${name.writerId}`;
}

/** Inverse of {@link manifestKey}; null for any other key. */
export function parseManifestKey(key: string): ManifestName | null {
  const match = NAME_PATTERN.exec(key);
  if (match === null) return null;
  const [, workspaceId, epoch, seq, snapshotId, writerId] = match;
  return {
    workspaceId: workspaceId as WorkspaceId,
    epoch: Number(epoch),
    seq: Number(seq),
    snapshotId: snapshotId as SnapshotId,
    writerId: writerId as string,
  };
}
