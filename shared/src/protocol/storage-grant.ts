import { z } from 'zod';
import { BUCKET_PROVIDERS } from '../storage/storage-profile.ts';
import { wallMsSchema } from './primitives.ts';

const prefixSchema = z.string().max(256).default('');

/**
 * What an agent needs to reach a workspace's object storage. `prefix` is prepended to every key.
 * - `file`: a folder. The path is the one on the control plane's computer; a host that mounts it elsewhere says so with
 *   DUMONT_FILE_STORE_MOUNT. Nothing but the agent's good behaviour keeps it below the prefix.
 * - `s3`: keys for a bucket. `profile` names the service; absent, the endpoint's host name tells. `expiresAtMs` is when
 *   the service stops taking them (absent: never); a fresh grant for the same place comes by `assign` long before.
 * - `presigned`: no keys at all: each request is signed by the control plane, at `signPath` below its base URL.
 */
export const storageGrantSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('file'), path: z.string().min(1).max(4_096), prefix: prefixSchema }),
  z.object({
    kind: z.literal('s3'),
    profile: z.enum(BUCKET_PROVIDERS).optional(),
    endpoint: z.url(),
    region: z.string().min(1).max(64),
    bucket: z.string().min(1).max(255),
    prefix: prefixSchema,
    accessKeyId: z.string().min(1).max(256),
    secretAccessKey: z.string().min(1).max(256),
    sessionToken: z.string().max(8_192).optional(),
    forcePathStyle: z.boolean().default(true),
    expiresAtMs: wallMsSchema.optional(),
  }),
  z.object({
    kind: z.literal('presigned'),
    profile: z.enum(BUCKET_PROVIDERS),
    signPath: z.string().regex(/^\/[a-z0-9/-]{1,200}$/),
    prefix: prefixSchema,
  }),
]);
export type StorageGrant = z.infer<typeof storageGrantSchema>;

/** A grant for a bucket of an S3-compatible service. */
export type BucketGrant = Extract<StorageGrant, { kind: 's3' }>;
/** A grant to ask the control plane for signed requests. */
export type PresignedGrant = Extract<StorageGrant, { kind: 'presigned' }>;
/** A grant that needs no control plane to be used. */
export type DirectGrant = Exclude<StorageGrant, PresignedGrant>;
