import { z } from 'zod';
import { snapshotRefSchema, type SnapshotRef } from '../protocol/snapshot-record.ts';
import { countSchema, epochSchema, snapshotIdSchema, wallMsSchema, workspaceIdSchema } from '../protocol/primitives.ts';
import type { SnapshotId, WorkspaceId } from '../model/ids.ts';
import { DumontError } from '../util/errors.ts';
import { describeIssues } from '../util/zod-issues.ts';
import { FORMAT_VERSION } from './layout.ts';
import { MAX_ENTRIES, MAX_PRIORITY_PATTERN_LENGTH, MAX_PRIORITY_PATTERNS } from './limits.ts';
import { MAX_FRAME_RAW_BYTES } from './lz4-frame.ts';
import { checkRoot } from './manifest-check.ts';
import { CODECS, MAX_PACK_BYTES, type Codec } from './pack.ts';

interface Metadata {
  /** Relative to the workspace folder, `/` between names. */
  readonly path: string;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since the Unix epoch, decimal, because they do not fit a double. */
  readonly mtimeNs: string;
}

/** Extended attributes: name, value in base64; ascending by name. ACLs are among them. */
export type Xattrs = readonly (readonly [name: string, valueBase64: string])[];

/** Parts of a file without data, which read as zeros: offset and length, ascending, apart from each other. */
export type Holes = readonly (readonly [offset: number, length: number])[];

export interface FileEntry extends Metadata {
  readonly type: 'file';
  readonly size: number;
  /** Rows of the chunk table, in file order; their raw lengths and those of the holes add up to `size`. */
  readonly chunks: readonly number[];
  readonly holes?: Holes | undefined;
  readonly xattrs?: Xattrs | undefined;
  /** It changed while it was read and no earlier good version existed: the content may mix two states. */
  readonly torn?: true | undefined;
}

export interface DirEntry extends Metadata {
  readonly type: 'dir';
  readonly xattrs?: Xattrs | undefined;
}

export interface SymlinkEntry extends Metadata {
  readonly type: 'symlink';
  readonly target: string;
}

/** Any path other than the first of an inode's; metadata is the first one's. */
export interface HardlinkEntry {
  readonly type: 'hardlink';
  readonly path: string;
  readonly target: string;
}

export type Entry = FileEntry | DirEntry | SymlinkEntry | HardlinkEntry;

/**
 * One row of a chunk table: id, row of `packs`, frame offset, frame length, raw length, codec; for codec `delta` also
 * the row of the chunk it is the difference to, which is of the same length and no delta itself.
 */
export type ChunkRow = readonly [
  id: string,
  pack: number,
  offset: number,
  storedLength: number,
  rawLength: number,
  codec: Codec,
  base?: number | undefined,
];

/** What identifies a snapshot and what it was built on. */
interface ManifestIdentity {
  readonly formatVersion: typeof FORMAT_VERSION;
  /** Who wrote it, `name/version`. */
  readonly tool: string;
  readonly workspaceId: WorkspaceId;
  readonly snapshotId: SnapshotId;
  readonly writerId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly parent: SnapshotRef | null;
  readonly startedAtMs: number;
  /** Patterns in gitignore syntax of what a restore brings back first. */
  readonly priority?: readonly string[] | undefined;
}

/** Everything needed to rebuild a workspace folder from packs: the root with its segments put together. */
export interface Manifest extends ManifestIdentity {
  readonly packs: readonly string[];
  readonly chunks: readonly ChunkRow[];
  /** Ascending by path, so a folder comes before what it holds. */
  readonly entries: readonly Entry[];
}

/** Where one run of entries is stored. */
export interface SegmentRef {
  /** Path of its first entry. */
  readonly first: string;
  /** How many entries it holds. */
  readonly entries: number;
  /** Rows of the root's chunk table, whose bytes in order are the segment's JSON. */
  readonly chunks: readonly number[];
}

/** The manifest object: what the snapshot is, and where the segments with its entries lie. */
export interface ManifestRoot extends ManifestIdentity {
  readonly counts: SnapshotCounts;
  /** Packs and chunks of the segments, not of file contents. */
  readonly packs: readonly string[];
  readonly chunks: readonly ChunkRow[];
  /** Ascending by `first`. */
  readonly segments: readonly SegmentRef[];
}

/** Sums over all segments. */
export interface SnapshotCounts {
  readonly entries: number;
  /** Paths of files, hard links included. */
  readonly files: number;
  /** Sum of file sizes, each inode once. */
  readonly bytes: number;
}

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const packIdSchema = z.string().regex(/^[0-9a-f]{32}$/);
const chunkRowSchema = z.tuple([
  hashSchema,
  z.int().min(0),
  z.int().min(0).max(MAX_PACK_BYTES),
  z.int().min(1).max(MAX_PACK_BYTES),
  z.int().min(1).max(MAX_FRAME_RAW_BYTES),
  z.enum(CODECS),
]);

const segmentRefSchema = z.object({
  first: z.string().min(1).max(4_096),
  entries: z.int().min(1).max(MAX_ENTRIES),
  chunks: z.array(z.int().min(0).max(MAX_ENTRIES)).min(1),
});

const rootSchema = z.object({
  formatVersion: z.literal(FORMAT_VERSION),
  tool: z.string().min(1).max(128),
  workspaceId: workspaceIdSchema,
  snapshotId: snapshotIdSchema,
  writerId: z.string().min(1).max(64),
  epoch: epochSchema,
  seq: z.int().min(1),
  parent: snapshotRefSchema.nullable(),
  startedAtMs: wallMsSchema,
  priority: z.array(z.string().max(MAX_PRIORITY_PATTERN_LENGTH)).max(MAX_PRIORITY_PATTERNS).optional(),
  counts: z.object({ entries: countSchema, files: countSchema, bytes: countSchema }),
  packs: z.array(packIdSchema).max(MAX_ENTRIES),
  chunks: z.array(chunkRowSchema).max(MAX_ENTRIES),
  segments: z.array(segmentRefSchema).max(MAX_ENTRIES),
});

/** A root as UTF-8 JSON. @throws {DumontError} LIMIT above the bounds of this format. */
export function encodeRoot(root: ManifestRoot): Uint8Array {
  if (root.counts.entries > MAX_ENTRIES) {
    throw new DumontError('LIMIT', `a snapshot holds at most ${MAX_ENTRIES} entries`, {
      hint: 'Exclude folders with many small files through .dumontignore.',
    });
  }
  return new TextEncoder().encode(JSON.stringify(root));
}

/**
 * A root whose own references all resolve; its segments are still to be read.
 * @throws {DumontError} CORRUPT otherwise; UNSUPPORTED for another format version
 */
export function decodeRoot(json: Uint8Array): ManifestRoot {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (error) {
    throw new DumontError('CORRUPT', 'the manifest is not JSON', { cause: error });
  }
  const version = z.object({ formatVersion: z.int() }).safeParse(value);
  if (version.success && version.data.formatVersion !== FORMAT_VERSION) {
    throw new DumontError(
      'UNSUPPORTED',
      `the manifest has format version ${version.data.formatVersion}, this program reads ${FORMAT_VERSION}`,
      { hint: 'Use a newer dumont-agent.' },
    );
  }
  const parsed = rootSchema.safeParse(value);
  if (!parsed.success) {
    throw new DumontError('CORRUPT', `the manifest is not valid: ${describeIssues(parsed.error).summary}`);
  }
  checkRoot(parsed.data);
  return parsed.data;
}
