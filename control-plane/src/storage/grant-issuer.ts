import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';

/**
 * How machines get at the object store.
 * - `sts`: sessions of a role, narrowed by a policy (AWS, Wasabi, MinIO)
 * - `r2`: temporary credentials of Cloudflare R2
 * - `b2`: application keys of Backblaze B2, one per instance
 * - `presigned`: no credentials; the control plane signs each request
 * - `account`: the operator's own keys, as they are
 * - `file`: a folder, guarded by nothing
 */
export const GRANT_WAYS = ['sts', 'r2', 'b2', 'presigned', 'account', 'file'] as const;
export type GrantWay = (typeof GRANT_WAYS)[number];

/** Who gets a grant, and for whose objects. */
export interface GrantHolder {
  readonly workspaceId: WorkspaceId;
  readonly instanceId: InstanceId;
}

/** One way to make grants. Whether a holder may have one is decided before. */
export interface GrantIssuer {
  readonly way: GrantWay;
  /**
   * A fresh grant for the objects of the holder's workspace.
   * @throws {DumontError} UNAVAILABLE, retryable, when the service does not answer; UNAUTHORIZED, with a hint, when it
   * refuses to make one
   */
  issue(holder: GrantHolder, options: { readonly signal: AbortSignal }): Promise<StorageGrant>;
  /**
   * Ends at the service what was issued to instances that may not hold it any more, where the service can, and forgets what
   * expired. Level-triggered and idempotent: called after each fence and now and then.
   */
  revokeForgotten?(options: { readonly signal: AbortSignal }): Promise<void>;
}

/** Life of temporary credentials. Renewed at half of it, so an outage of half an hour costs nobody a grant. */
export const GRANT_TTL_MS = 3_600_000;
/** The least that STS makes. */
export const MIN_GRANT_TTL_MS = 900_000;
