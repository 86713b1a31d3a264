import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { z } from 'zod';
import type { Database } from '../store/database.ts';
import { deleteStorageKey, insertStorageKey, listForgottenStorageKeys } from '../store/storage-keys.ts';
import { callJson, JsonCallRefused } from './call-json.ts';
import type { GrantHolder, GrantIssuer } from './grant-issuer.ts';

/** Read, write, list. Writing includes hiding an object, which keeps its bytes; without `deleteFiles` none is destroyed. */
const CAPABILITIES = ['listBuckets', 'listFiles', 'readFiles', 'writeFiles'] as const;
/** Keys deleted in one round; the next round takes the rest. */
const MAX_DELETED_KEYS = 100;

const HINT =
  'The key needs the capabilities writeKeys, deleteKeys and listBuckets and those it hands on; or set STORAGE_GRANTS=presigned.';

const authorizedSchema = z.object({
  accountId: z.string().min(1),
  authorizationToken: z.string().min(1),
  apiInfo: z.object({
    storageApi: z.object({ apiUrl: z.url(), bucketId: z.string().nullish(), bucketName: z.string().nullish() }),
  }),
});
const bucketsSchema = z.object({ buckets: z.array(z.object({ bucketId: z.string(), bucketName: z.string() })) });
const keySchema = z.object({ applicationKeyId: z.string().min(1), applicationKey: z.string().min(1) });

export interface B2IssuerOptions {
  readonly account: BucketGrant;
  readonly apiUrl: string;
  readonly ttlMs: number;
  readonly clock: Clock;
  readonly db: Database;
}

interface Session {
  readonly apiUrl: string;
  readonly accountId: string;
  readonly token: string;
  readonly bucketId: string;
}

interface SessionCall<Answer> {
  readonly name: string;
  readonly body: (session: Session) => Readonly<Record<string, unknown>>;
  readonly answer: z.ZodType<Answer>;
}

/**
 * Application keys of Backblaze B2, restricted to one workspace's prefix. B2 sessions cannot be narrowed, but keys can be
 * deleted: each is written down, and ends as soon as its instance is fenced.
 */
export class B2Issuer implements GrantIssuer {
  readonly way = 'b2';
  readonly #options: B2IssuerOptions;
  #session: Promise<Session> | null = null;

  constructor(options: B2IssuerOptions) {
    this.#options = options;
  }

  async issue(holder: GrantHolder, { signal }: { readonly signal: AbortSignal }): Promise<StorageGrant> {
    const { account, clock, db, ttlMs } = this.#options;
    const prefix = account.prefix + workspacePrefix(holder.workspaceId);
    const expiresAtMs = clock.nowMs() + ttlMs;
    const key = await this.#call(
      {
        name: 'b2_create_key',
        body: ({ accountId, bucketId }) => ({
          accountId,
          bucketId,
          capabilities: CAPABILITIES,
          // Letters, digits and dashes only; it tells the operator whose key it is.
          keyName: `dumont-${holder.instanceId.replaceAll('_', '-')}`,
          namePrefix: prefix,
          validDurationInSeconds: Math.round(ttlMs / 1_000),
        }),
        answer: keySchema,
      },
      signal,
    );
    const { applicationKeyId: accessKeyId, applicationKey: secretAccessKey } = key;
    await insertStorageKey(db, { keyId: accessKeyId, instanceId: holder.instanceId, expiresAtMs });
    const { sessionToken: _, ...place } = account;
    return { ...place, prefix, accessKeyId, secretAccessKey, expiresAtMs };
  }

  async revokeForgotten({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { db, clock } = this.#options;
    const keyIds = await listForgottenStorageKeys(db, { nowMs: clock.nowMs(), limit: MAX_DELETED_KEYS });
    for (const applicationKeyId of keyIds) {
      await this.#deleteKey(applicationKeyId, signal);
      await deleteStorageKey(db, applicationKeyId);
    }
  }

  /** One that is not there any more (deleted by hand, or expired and tidied up by B2) counts as deleted. */
  async #deleteKey(applicationKeyId: string, signal: AbortSignal): Promise<void> {
    const body = () => ({ applicationKeyId });
    try {
      await this.#call({ name: 'b2_delete_key', body, answer: z.unknown() }, signal);
    } catch (error) {
      if (!(error instanceof JsonCallRefused) || (error.status !== 400 && error.status !== 404)) throw error;
    }
  }

  /** Authorizations last a day: a call refused with 401 is made once more with a fresh one. */
  async #call<Answer>(call: SessionCall<Answer>, signal: AbortSignal): Promise<Answer> {
    for (let isRepeat = false; ; isRepeat = true) {
      this.#session ??= this.#authorize(signal);
      const session = this.#session;
      try {
        return await send(await session, call, signal);
      } catch (error) {
        if (this.#session === session) this.#session = null;
        if (isRepeat || !(error instanceof JsonCallRefused) || error.status !== 401) throw error;
      }
    }
  }

  async #authorize(signal: AbortSignal): Promise<Session> {
    const { account, apiUrl } = this.#options;
    const basic = Buffer.from(`${account.accessKeyId}:${account.secretAccessKey}`).toString('base64');
    const { accountId, authorizationToken, apiInfo } = await callJson({
      url: `${apiUrl}/b2api/v3/b2_authorize_account`,
      doing: 'authorizing the B2 account',
      authorization: `Basic ${basic}`,
      answer: authorizedSchema,
      hint: 'Check B2_KEY_ID and B2_APPLICATION_KEY.',
      signal,
    });
    const { storageApi } = apiInfo;
    const session = { apiUrl: storageApi.apiUrl, accountId, token: authorizationToken };
    if (typeof storageApi.bucketId === 'string' && storageApi.bucketName === account.bucket) {
      return { ...session, bucketId: storageApi.bucketId };
    }
    const body = () => ({ accountId, bucketName: account.bucket });
    const listing = { name: 'b2_list_buckets', body, answer: bucketsSchema };
    const { buckets } = await send({ ...session, bucketId: '' }, listing, signal);
    const found = buckets.find(({ bucketName }) => bucketName === account.bucket);
    if (found === undefined) {
      throw new DumontError('NOT_FOUND', `the B2 account has no bucket ${account.bucket}`, { field: 'B2_BUCKET' });
    }
    return { ...session, bucketId: found.bucketId };
  }
}

function send<Answer>(session: Session, call: SessionCall<Answer>, signal: AbortSignal): Promise<Answer> {
  return callJson({
    url: `${session.apiUrl}/b2api/v3/${call.name}`,
    doing: call.name,
    authorization: session.token,
    body: call.body(session),
    answer: call.answer,
    hint: HINT,
    signal,
  });
}
