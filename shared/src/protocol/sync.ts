import { z } from 'zod';
import { MAX_HOLES } from '../format/limits.ts';
import { MAX_FRAME_RAW_BYTES } from '../format/lz4-frame.ts';
import { CODECS, type Codec } from '../format/pack.ts';
import { pathObjection } from '../format/segment-check.ts';
import { ERROR_CODES, DumontError } from '../util/errors.ts';
import { describeIssues } from '../util/zod-issues.ts';
import { countSchema, epochSchema, workspaceIdSchema } from './primitives.ts';

/**
 * History, newest last; both sides speak exactly one version.
 * - 1 (2026-11): compare and list, chunks, stages, batches with a hash of the tree.
 */
export const SYNC_PROTOCOL_VERSION = 1;
/** Path of the sync socket on a standby. */
export const SYNC_SOCKET_PATH = '/sync/v1';
/** Where a standby listens on its own machine; its provider opens it to the outside under a port of its choice. */
export const STANDBY_SYNC_PORT = 8_767;

/** Chunks of one file, 200 GB at 1 MiB each: its list fits into one message. */
export const MAX_SYNC_FILE_CHUNKS = 200_000;
/** Largest text message, bytes: an entry with {@link MAX_SYNC_FILE_CHUNKS}. */
export const MAX_SYNC_TEXT_BYTES = 16 * 1024 * 1024;
/** What a chunk's frame takes besides its raw bytes: our header, and the most that a codec puts around incompressible bytes. */
const AROUND_CHUNK_BYTES = 4_096;
export const MAX_SYNC_CHUNK_BYTES = MAX_FRAME_RAW_BYTES + AROUND_CHUNK_BYTES;
/** Operations of one batch: a receiver carries them out in one go, some 20 ms. */
export const MAX_BATCH_OPS = 256;
/** Raw bytes that may be sent for one batch: a receiver holds them in memory. */
export const MAX_POOL_BYTES = 16 * 1024 * 1024;
/** Copied by one message, raw bytes and chunks: what a receiver does between two looks at the socket. */
export const MAX_COPY_BYTES = 8 * 1024 * 1024;
export const MAX_COPY_CHUNKS = 256;
/** Half-made files at a time, those of sessions cut off included. */
export const MAX_STAGES = 8;
/** Parts that the hashes of a tree come in, so that two trees find where they differ. */
export const SYNC_BUCKETS = 1_024;

const pathSchema = z.string().refine((path) => pathObjection(path) === undefined, 'must be a plain relative path');
const hashSchema = z.string().regex(/^[0-9a-f]{64}$/);
const stageSchema = z.int().min(1).max(0xffff_ffff);
const lengthSchema = z.int().min(1).max(MAX_FRAME_RAW_BYTES);
const chunkSchema = z.tuple([hashSchema, lengthSchema]);
/** Paths of one inode share a number; 0 for a file with one name. */
const groupSchema = countSchema;
/** Names of one inode besides the first. */
const linksSchema = z.array(pathSchema).max(1_024);
const holesSchema = z.array(z.tuple([countSchema, z.int().min(1)])).max(MAX_HOLES);

const metaSchema = z.object({
  mode: z.int().min(0).max(0o7777),
  uid: z.int().min(0).max(0xffff_ffff),
  gid: z.int().min(0).max(0xffff_ffff),
  mtimeNs: z.string().regex(/^-?\d{1,19}$/),
  xattrs: z
    .array(z.tuple([z.string().min(1).max(255), z.base64().max(87_384)]))
    .max(4_096)
    .optional(),
});
export type SyncMeta = z.infer<typeof metaSchema>;

const contentSchema = z.object({
  size: countSchema,
  chunks: z.array(chunkSchema).max(MAX_SYNC_FILE_CHUNKS),
  holes: holesSchema,
});
export type SyncContent = z.infer<typeof contentSchema>;

const entrySchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('dir'), meta: metaSchema }),
  z.object({ type: z.literal('symlink'), meta: metaSchema, target: z.string().min(1).max(4_096) }),
  z.object({ type: z.literal('file'), meta: metaSchema, content: contentSchema, group: groupSchema }),
]);
/** One path of a synchronized tree. */
export type SyncEntry = z.infer<typeof entrySchema>;

const opSchema = z.discriminatedUnion('op', [
  z.object({ op: z.literal('dir'), path: pathSchema, meta: metaSchema }),
  z.object({ op: z.literal('symlink'), path: pathSchema, meta: metaSchema, target: z.string().min(1).max(4_096) }),
  /** A file and its other names, of chunks that were sent for this batch or lie in the folder. */
  z.object({
    op: z.literal('file'),
    path: pathSchema,
    meta: metaSchema,
    content: contentSchema,
    group: groupSchema,
    links: linksSchema,
  }),
  /** The same of a stage, which ends. */
  z.object({
    op: z.literal('staged'),
    path: pathSchema,
    meta: metaSchema,
    stage: stageSchema,
    size: countSchema,
    holes: holesSchema,
    group: groupSchema,
    links: linksSchema,
  }),
  /** A file with one name grows: its first `keep` chunks stay, the rest becomes `chunks`; `tail` are the bytes beyond its end. */
  z.object({
    op: z.literal('append'),
    path: pathSchema,
    meta: metaSchema,
    keep: countSchema,
    chunks: z.array(chunkSchema).min(1).max(64),
    tail: z.array(chunkSchema).min(1).max(64),
    size: countSchema,
  }),
  /** Metadata of a file, whatever its names. */
  z.object({ op: z.literal('meta'), path: pathSchema, meta: metaSchema }),
  /** One more name of a file. */
  z.object({ op: z.literal('link'), path: pathSchema, target: pathSchema, group: z.int().min(1) }),
  z.object({ op: z.literal('rename'), from: pathSchema, to: pathSchema }),
  /** With all that lies below it. */
  z.object({ op: z.literal('delete'), path: pathSchema }),
]);
export type SyncOp = z.infer<typeof opSchema>;

/** Primary → standby. */
const toStandbySchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('hello'),
    version: z.int().min(1),
    workspaceId: workspaceIdSchema,
    epoch: epochSchema,
  }),
  z.object({ kind: z.literal('compare') }),
  z.object({
    kind: z.literal('list'),
    buckets: z
      .array(
        z
          .int()
          .min(0)
          .max(SYNC_BUCKETS - 1),
      )
      .max(SYNC_BUCKETS),
  }),
  /** Look at every file anew: what is known of the folder did not lead to two equal trees. */
  z.object({ kind: z.literal('rescan') }),
  z.object({ kind: z.literal('stage'), stage: stageSchema }),
  z.object({
    kind: z.literal('copy'),
    stage: stageSchema,
    chunks: z.array(z.tuple([hashSchema, countSchema, lengthSchema])).max(MAX_COPY_CHUNKS),
  }),
  /** Stages that are not needed; none named: all. */
  z.object({ kind: z.literal('free'), stages: z.array(stageSchema).max(MAX_STAGES) }),
  z.object({
    kind: z.literal('batch'),
    seq: z.int().min(1),
    ops: z.array(opSchema).max(MAX_BATCH_OPS),
    /** Of the tree after it. */
    hash: hashSchema,
  }),
]);
export type ToStandby = z.infer<typeof toStandbySchema>;

/** Standby → primary. */
const toPrimarySchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('welcome'),
    version: z.int().min(1),
    seq: countSchema,
    hash: hashSchema,
    /** Chunks in stages of sessions cut off: they need not be sent again. */
    staged: z.array(hashSchema).max(MAX_SYNC_FILE_CHUNKS),
  }),
  z.object({
    kind: z.literal('refused'),
    code: z.enum(ERROR_CODES),
    message: z.string().max(1_000),
    epoch: epochSchema,
  }),
  z.object({ kind: z.literal('buckets'), hashes: z.string().length(SYNC_BUCKETS * 64) }),
  z.object({
    kind: z.literal('entries'),
    entries: z.array(z.tuple([pathSchema, entrySchema])).max(4_096),
    isLast: z.boolean(),
  }),
  z.object({ kind: z.literal('rescanned') }),
  /** Bytes of messages dealt with since the session began: what the sender's window moves by. */
  z.object({ kind: z.literal('progress'), bytes: countSchema }),
  /** The batch is carried out and remembered; the hash is the receiver's own. */
  z.object({ kind: z.literal('ack'), seq: z.int().min(1), hash: hashSchema, bytes: countSchema }),
]);
export type ToPrimary = z.infer<typeof toPrimarySchema>;

/** A chunk on the wire: bytes of a batch (stage 0), or of a stage at an offset. */
export interface SyncChunk {
  readonly stage: number;
  readonly offset: number;
  readonly chunkId: string;
  readonly rawLength: number;
  readonly codec: Codec;
}

/** Length of {@link putChunkHeader}: codec (u8) · 0 (3) · stage (u32) · offset (u64) · raw length (u32) · chunk id (32). */
export const SYNC_CHUNK_HEADER_BYTES = 52;

/** Writes what comes before a chunk's frame in its binary message. */
export function putChunkHeader(into: Buffer, { stage, offset, chunkId, rawLength, codec }: SyncChunk): void {
  into.fill(0, 0, 4);
  into.writeUInt8(CODECS.indexOf(codec), 0);
  into.writeUInt32LE(stage, 4);
  into.writeBigUInt64LE(BigInt(offset), 8);
  into.writeUInt32LE(rawLength, 16);
  into.write(chunkId, 20, 'hex');
}

/** @throws {DumontError} PROTOCOL, LIMIT */
export function readChunk(message: Buffer): { readonly chunk: SyncChunk; readonly frame: Buffer } {
  if (message.length <= SYNC_CHUNK_HEADER_BYTES) throw new DumontError('PROTOCOL', 'a chunk message is too short');
  if (message.length > MAX_SYNC_CHUNK_BYTES) throw new DumontError('LIMIT', 'a chunk message is too long');
  const codec = CODECS[message.readUInt8(0)];
  const offset = message.readBigUInt64LE(8);
  const rawLength = message.readUInt32LE(16);
  if (codec === undefined || codec === 'delta') throw new DumontError('PROTOCOL', 'a chunk comes in no known codec');
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw new DumontError('PROTOCOL', 'a chunk lies beyond any file');
  if (rawLength < 1 || rawLength > MAX_FRAME_RAW_BYTES) throw new DumontError('PROTOCOL', 'a chunk has a wrong length');
  const chunkId = message.toString('hex', 20, SYNC_CHUNK_HEADER_BYTES);
  const chunk = { stage: message.readUInt32LE(4), offset: Number(offset), chunkId, rawLength, codec };
  return { chunk, frame: message.subarray(SYNC_CHUNK_HEADER_BYTES) };
}

/** @throws {DumontError} PROTOCOL naming the field, LIMIT */
export function decodeToStandby(text: string): ToStandby {
  return decode(toStandbySchema, text);
}

/** @throws {DumontError} PROTOCOL naming the field, LIMIT */
export function decodeToPrimary(text: string): ToPrimary {
  return decode(toPrimarySchema, text);
}

/** @throws {DumontError} LIMIT when the message is longer than a peer accepts */
export function encodeSync(message: ToStandby | ToPrimary): string {
  const text = JSON.stringify(message);
  if (text.length > MAX_SYNC_TEXT_BYTES) throw new DumontError('LIMIT', `a ${message.kind} message is too long`);
  return text;
}

function decode<Message>(schema: z.ZodType<Message>, text: string): Message {
  if (text.length > MAX_SYNC_TEXT_BYTES) throw new DumontError('LIMIT', 'a sync message is too long');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DumontError('PROTOCOL', 'a sync message is not JSON', { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { summary, field } = describeIssues(parsed.error);
  throw new DumontError('PROTOCOL', `a sync message is not valid: ${summary}`, { field });
}

/** What an assignment says of continuous sync. The token is of one workspace and epoch, known to both machines only. */
export const syncAssignmentSchema = z.discriminatedUnion('role', [
  z.object({
    role: z.literal('send'),
    url: z.url({ protocol: /^wss$/ }),
    token: z.string().min(16).max(256),
    epoch: epochSchema,
  }),
  z.object({
    role: z.literal('receive'),
    host: z.string().min(1).max(255).default('0.0.0.0'),
    /** 0 lets the system choose. */
    port: z.int().min(0).max(65_535),
    token: z.string().min(16).max(256),
    epoch: epochSchema,
  }),
]);
