import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { z } from 'zod';
import { callJson } from './call-json.ts';
import type { GrantHolder, GrantIssuer } from './grant-issuer.ts';

const answerSchema = z.object({
  result: z.object({
    accessKeyId: z.string().min(1),
    secretAccessKey: z.string().min(1),
    sessionToken: z.string().min(1),
  }),
});

export interface R2IssuerOptions {
  readonly account: BucketGrant;
  readonly accountId: string;
  readonly apiUrl: string;
  readonly apiToken: string;
  readonly ttlMs: number;
  readonly clock: Clock;
}

/**
 * Temporary credentials of Cloudflare R2 for one workspace's prefix. R2 knows no permission that writes without deleting:
 * such a grant can delete in its own workspace, and nowhere else.
 */
export class R2Issuer implements GrantIssuer {
  readonly way = 'r2';
  readonly #options: R2IssuerOptions;

  constructor(options: R2IssuerOptions) {
    this.#options = options;
  }

  async issue(holder: GrantHolder, { signal }: { readonly signal: AbortSignal }): Promise<StorageGrant> {
    const { account, accountId, apiUrl, apiToken, ttlMs, clock } = this.#options;
    const prefix = account.prefix + workspacePrefix(holder.workspaceId);
    // Counted from before the call: the grant is never believed to live longer than it does.
    const askedAtMs = clock.nowMs();
    const { result } = await callJson({
      url: `${apiUrl}/accounts/${accountId}/r2/temp-access-credentials`,
      doing: 'making temporary R2 credentials',
      authorization: `Bearer ${apiToken}`,
      body: {
        bucket: account.bucket,
        parentAccessKeyId: account.accessKeyId,
        permission: 'object-read-write',
        ttlSeconds: Math.round(ttlMs / 1_000),
        prefixes: [prefix],
      },
      answer: answerSchema,
      hint: 'R2_API_TOKEN needs the permission "Workers R2 Storage: Edit"; or set STORAGE_GRANTS=presigned.',
      signal,
    });
    return { ...account, ...result, prefix, expiresAtMs: askedAtMs + ttlMs };
  }
}
