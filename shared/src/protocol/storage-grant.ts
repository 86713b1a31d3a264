import { z } from 'zod';
import { BUCKET_PROVIDERS } from '../storage/storage-profile.ts';

/**
 * What an agent needs to reach a workspace's object storage. `prefix` is prepended to every key.
 * For `file` the path is the folder on the control plane's computer; a host that mounts it elsewhere says so with
 * DUMONT_FILE_STORE_MOUNT. `profile` names the service; absent, the endpoint's host name tells.
 */
export const storageGrantSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('file'), path: z.string().min(1).max(4_096), prefix: z.string().max(256).default('') }),
  z.object({
    kind: z.literal('s3'),
    profile: z.enum(BUCKET_PROVIDERS).optional(),
    endpoint: z.url(),
    region: z.string().min(1).max(64),
    bucket: z.string().min(1).max(255),
    prefix: z.string().max(256).default(''),
    accessKeyId: z.string().min(1).max(256),
    secretAccessKey: z.string().min(1).max(256),
    sessionToken: z.string().max(8_192).optional(),
    forcePathStyle: z.boolean().default(true),
  }),
]);
export type StorageGrant = z.infer<typeof storageGrantSchema>;

/** A grant for a bucket of an S3-compatible service. */
export type BucketGrant = Extract<StorageGrant, { kind: 's3' }>;
