import type { SnapshotId, WorkspaceId } from '../model/ids.ts';
import { assert } from '../util/assert.ts';

/** Version of everything stored: key layout, packs and manifests. A reader refuses what is newer. */
export const FORMAT_VERSION = 1;

/** Every pack lies under this prefix, named by the BLAKE3-256 of its bytes. */
const PACKS_PREFIX = 'packs/';

const HASH_PATTERN = /^[0-9a-f]{64}$/;
const WRITER_PATTERN = /^[a-z0-9_]{1,64}$/;
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
  assert(HASH_PATTERN.test(packId), 'a pack id is 64 hexadecimal digits');
  return `${PACKS_PREFIX}${packId}`;
}

/** Where a workspace's manifests lie; keys below it sort by epoch, then by sequence number. */
export function manifestPrefix(workspaceId: WorkspaceId): string {
  return `manifests/${workspaceId}/`;
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
