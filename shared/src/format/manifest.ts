import { z } from 'zod';
import { countSchema, epochSchema, snapshotIdSchema, wallMsSchema, workspaceIdSchema } from '../protocol/primitives.ts';
import { snapshotRefSchema } from '../protocol/snapshot-record.ts';
import { DumontError } from '../util/errors.ts';
import { describeIssues } from '../util/zod-issues.ts';
import { FORMAT_VERSION } from './layout.ts';
import { MAX_FRAME_RAW_BYTES } from './lz4-frame.ts';
import { checkManifest } from './manifest-check.ts';
import { CODECS, MAX_PACK_BYTES } from './pack.ts';

/** Most entries of one snapshot: the manifest is one JSON text in memory, about 200 bytes per entry. */
export const MAX_ENTRIES = 1_000_000;
/** Most distinct chunks of one snapshot: 4 TB at 1 MiB each. */
const MAX_CHUNKS = 4_000_000;
/** Largest manifest, bytes of JSON: below the longest string of the engine (512 MiB). */
export const MAX_MANIFEST_BYTES = 448 * 1024 * 1024;

/** Limits of Linux for the attributes of one file: 64 KiB for a value, as many names as fit into 64 KiB. */
const MAX_XATTRS = 4_096;
const MAX_XATTR_BASE64 = 87_384;
/** Holes of one file; a file with more is stored as if the rest were data. */
export const MAX_HOLES = 100_000;

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const packIdSchema = z.string().regex(/^[0-9a-f]{32}$/);
const indexSchema = z.int().min(0).max(MAX_CHUNKS);
const pathSchema = z.string().min(1).max(4_096);
/** Nanoseconds since the Unix epoch, decimal, because they do not fit a double. */
const nanosecondsSchema = z.string().regex(/^-?\d{1,19}$/);

/** Extended attributes: name, value in base64. ACLs are among them. */
const xattrsSchema = z
  .array(z.tuple([z.string().min(1).max(255), z.base64().max(MAX_XATTR_BASE64)]))
  .max(MAX_XATTRS)
  .optional();

const metadata = {
  /** Relative to the workspace folder, `/` between names. */
  path: pathSchema,
  /** Permission bits with setuid, setgid and sticky. */
  mode: z.int().min(0).max(0o7777),
  uid: z.int().min(0).max(0xffff_ffff),
  gid: z.int().min(0).max(0xffff_ffff),
  mtimeNs: nanosecondsSchema,
};

const fileEntrySchema = z.object({
  type: z.literal('file'),
  ...metadata,
  xattrs: xattrsSchema,
  size: countSchema,
  /** Rows of the chunk table, in file order; their raw lengths and those of the holes add up to `size`. */
  chunks: z.array(indexSchema).max(MAX_CHUNKS),
  /** Parts without data, which read as zeros: offset and length, ascending, apart from each other. */
  holes: z
    .array(z.tuple([countSchema, z.int().min(1)]))
    .min(1)
    .max(MAX_HOLES)
    .optional(),
  /** It changed while it was read and no earlier good version existed: the content may mix two states. */
  torn: z.literal(true).optional(),
});
export type FileEntry = z.infer<typeof fileEntrySchema>;

/** Any path other than the first of an inode's; metadata is the first one's. */
const hardlinkEntrySchema = z.object({ type: z.literal('hardlink'), path: pathSchema, target: pathSchema });
const dirEntrySchema = z.object({ type: z.literal('dir'), ...metadata, xattrs: xattrsSchema });
const symlinkEntrySchema = z.object({ type: z.literal('symlink'), ...metadata, target: z.string().min(1).max(4_096) });

const entrySchema = z.discriminatedUnion('type', [
  fileEntrySchema,
  dirEntrySchema,
  symlinkEntrySchema,
  hardlinkEntrySchema,
]);
export type Entry = z.infer<typeof entrySchema>;

/**
 * One row of the chunk table: id, row of `packs`, frame offset, frame length, raw length, codec; for codec `delta` also
 * the row of the chunk it is the difference to, which is of the same length and no delta itself.
 */
const chunkRowSchema = z.tuple([
  hashSchema,
  z.int().min(0),
  z.int().min(0).max(MAX_PACK_BYTES),
  z.int().min(1).max(MAX_PACK_BYTES),
  z.int().min(1).max(MAX_FRAME_RAW_BYTES),
  z.enum(CODECS),
  indexSchema.optional(),
]);
export type ChunkRow = z.infer<typeof chunkRowSchema>;

/** Everything needed to rebuild a workspace folder from packs, and the parent's hash, which proves lineage. */
const manifestSchema = z.object({
  formatVersion: z.literal(FORMAT_VERSION),
  /** Who wrote it, `name/version`. */
  tool: z.string().min(1).max(128),
  workspaceId: workspaceIdSchema,
  snapshotId: snapshotIdSchema,
  writerId: z.string().min(1).max(64),
  epoch: epochSchema,
  seq: z.int().min(1),
  parent: snapshotRefSchema.nullable(),
  startedAtMs: wallMsSchema,
  packs: z.array(packIdSchema).max(MAX_CHUNKS),
  chunks: z.array(chunkRowSchema).max(MAX_CHUNKS),
  /** Ascending by path, so a folder comes before what it holds. */
  entries: z.array(entrySchema).max(MAX_ENTRIES),
});
export type Manifest = z.infer<typeof manifestSchema>;

/** A manifest as UTF-8 JSON. @throws {DumontError} LIMIT above the bounds of this format. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  if (manifest.entries.length > MAX_ENTRIES || manifest.chunks.length > MAX_CHUNKS) {
    throw new DumontError('LIMIT', `a snapshot holds at most ${MAX_ENTRIES} entries and ${MAX_CHUNKS} chunks`, {
      hint: 'Exclude folders with many small files through .dumontignore.',
    });
  }
  const bytes = new TextEncoder().encode(JSON.stringify(manifest));
  if (bytes.length > MAX_MANIFEST_BYTES) {
    throw new DumontError('LIMIT', `the manifest takes ${bytes.length} bytes, the limit is ${MAX_MANIFEST_BYTES}`);
  }
  return bytes;
}

/**
 * A manifest that is safe to act on: of our schema, every path inside the folder, every reference resolvable.
 * @throws {DumontError} CORRUPT otherwise; UNSUPPORTED for another format version
 */
export function decodeManifest(json: Uint8Array): Manifest {
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
  const parsed = manifestSchema.safeParse(value);
  if (!parsed.success) {
    throw new DumontError('CORRUPT', `the manifest is not valid: ${describeIssues(parsed.error).summary}`);
  }
  checkManifest(parsed.data);
  return parsed.data;
}
