import { z } from 'zod';
import type { Answer } from './bucket.ts';
import type { KeyBook } from './key-book.ts';
import { readPolicy, type Allows } from './policy.ts';
import type { Credentials } from './sigv4.ts';

/** R2's and B2's own APIs live below these paths of the simulator; STS answers at its root. */
export const R2_API_PATH = '/r2-api';
export const B2_API_PATH = '/b2api/v3/';
export const R2_API_TOKEN = 'token of the R2 account';
export const R2_ACCOUNT_ID = '0123456789abcdef0123456789abcdef';

export interface ApiCall {
  readonly path: string;
  readonly authorization: string;
  readonly body: string;
  readonly nowMs: number;
  readonly origin: string;
  readonly buckets: readonly string[];
}

/** STS AssumeRole, signed by the account's own key; the caller has checked the signature. */
export function assumeRole(keys: KeyBook, body: string, nowMs: number): Answer {
  const form = new URLSearchParams(body);
  const seconds = Number(form.get('DurationSeconds') ?? 3_600);
  if (form.get('Action') !== 'AssumeRole' || !(seconds >= 900 && seconds <= 43_200)) {
    return stsError(400, 'ValidationError', 'no AssumeRole of 900 to 43200 seconds');
  }
  const policy = form.get('Policy') ?? '';
  if (policy === '' || policy.length > 2_048)
    return stsError(400, 'MalformedPolicyDocument', 'no session policy, or too long');
  let allows: Allows;
  try {
    allows = readPolicy(policy);
  } catch (error) {
    return stsError(400, 'MalformedPolicyDocument', String(error));
  }
  const expiresAtMs = nowMs + seconds * 1_000;
  const made = keys.issue({ allows, expiresAtMs, expiredCode: 'ExpiredToken' }, { withToken: true });
  return text(
    200,
    'text/xml',
    `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>` +
      `<AccessKeyId>${made.accessKeyId}</AccessKeyId><SecretAccessKey>${made.secretAccessKey}</SecretAccessKey>` +
      `<SessionToken>${made.sessionToken}</SessionToken><Expiration>${new Date(expiresAtMs).toISOString()}</Expiration>` +
      `</Credentials></AssumeRoleResult></AssumeRoleResponse>`,
  );
}

export function stsError(status: number, code: string, message: string): Answer {
  return text(
    status,
    'text/xml',
    `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${message.replaceAll(/[<>&]/g, ' ')}</Message></Error></ErrorResponse>`,
  );
}

const r2Schema = z.strictObject({
  bucket: z.string(),
  parentAccessKeyId: z.string(),
  permission: z.enum(['object-read-write', 'object-read-only']),
  ttlSeconds: z.int().min(1).max(604_800),
  prefixes: z.array(z.string().min(1)).min(1),
});

/** R2's temporary credentials. `object-read-write` includes deleting, as at R2. */
export function r2Credentials(keys: KeyBook, call: ApiCall): Answer {
  if (call.authorization !== `Bearer ${R2_API_TOKEN}`) return json(403, { success: false, result: null });
  if (call.path !== `${R2_API_PATH}/accounts/${R2_ACCOUNT_ID}/r2/temp-access-credentials`) return json(404, {});
  const { bucket, parentAccessKeyId, permission, ttlSeconds, prefixes } = r2Schema.parse(JSON.parse(call.body));
  if (!keys.isAccount(parentAccessKeyId)) return json(400, { success: false, result: null });
  const allows: Allows = (wish) => {
    const name = wish.listedPrefix ?? wish.key;
    if (wish.bucket !== bucket || !prefixes.some((each) => name.startsWith(each))) return false;
    return permission === 'object-read-write' || wish.action === 's3:GetObject' || wish.action === 's3:ListBucket';
  };
  const expiresAtMs = call.nowMs + ttlSeconds * 1_000;
  const result = keys.issue({ allows, expiresAtMs, expiredCode: 'ExpiredToken' }, { withToken: true });
  return json(200, { success: true, result });
}

const B2_CAPABILITY_OF: Readonly<Record<string, string>> = {
  's3:GetObject': 'readFiles',
  's3:PutObject': 'writeFiles',
  's3:ListBucket': 'listFiles',
  // By name it only hides; a version takes deleteFiles.
  's3:DeleteObject': 'writeFiles',
  's3:DeleteObjectVersion': 'deleteFiles',
};
const b2KeySchema = z.strictObject({
  accountId: z.literal('b2-account'),
  bucketId: z.string(),
  capabilities: z.array(z.enum(['listBuckets', 'listFiles', 'readFiles', 'writeFiles', 'deleteFiles'])).min(1),
  keyName: z.string().regex(/^[A-Za-z0-9-]{1,100}$/),
  namePrefix: z.string().min(1),
  validDurationInSeconds: z.int().min(1).max(86_400_000),
});

/** The native API of B2, as far as keys go. `authorized` holds the tokens that still count; emptying it ends them. */
export function b2Api(
  keys: KeyBook,
  call: ApiCall,
  state: { readonly account: Credentials; readonly authorized: Set<string> },
): Answer {
  const name = call.path.slice(B2_API_PATH.length);
  if (name === 'b2_authorize_account') {
    const { accessKeyId, secretAccessKey } = state.account;
    const basic = Buffer.from(`${accessKeyId}:${secretAccessKey}`).toString('base64');
    if (call.authorization !== `Basic ${basic}`) return b2Error(401, 'unauthorized');
    const authorizationToken = `b2-token-${state.authorized.size}-${call.nowMs}`;
    state.authorized.add(authorizationToken);
    const storageApi = { apiUrl: call.origin, bucketId: null, bucketName: null };
    return json(200, { accountId: 'b2-account', authorizationToken, apiInfo: { storageApi } });
  }
  if (!state.authorized.has(call.authorization)) return b2Error(401, 'expired_auth_token');
  const body: unknown = JSON.parse(call.body);
  switch (name) {
    case 'b2_list_buckets': {
      const { bucketName } = z.object({ bucketName: z.string() }).parse(body);
      const found = call.buckets.filter((each) => each === bucketName);
      return json(200, { buckets: found.map((each) => ({ bucketId: `id-of-${each}`, bucketName: each })) });
    }
    case 'b2_create_key': {
      const key = b2KeySchema.parse(body);
      const allows: Allows = ({ action, bucket, key: name, listedPrefix }) => {
        const capability = B2_CAPABILITY_OF[action];
        const isBelow = (listedPrefix ?? name).startsWith(key.namePrefix) && key.bucketId === `id-of-${bucket}`;
        return isBelow && capability !== undefined && (key.capabilities as readonly string[]).includes(capability);
      };
      const expiresAtMs = call.nowMs + key.validDurationInSeconds * 1_000;
      const made = keys.issue({ allows, expiresAtMs, expiredCode: 'InvalidAccessKeyId' }, { withToken: false });
      return json(200, { applicationKeyId: made.accessKeyId, applicationKey: made.secretAccessKey });
    }
    case 'b2_delete_key': {
      const { applicationKeyId } = z.strictObject({ applicationKeyId: z.string() }).parse(body);
      return keys.issued.delete(applicationKeyId) ? json(200, { applicationKeyId }) : b2Error(400, 'bad_request');
    }
    default:
      return b2Error(400, 'bad_request');
  }
}

function b2Error(status: number, code: string): Answer {
  return json(status, { status, code, message: `simulated ${code}` });
}

function json(status: number, value: unknown): Answer {
  return text(status, 'application/json', JSON.stringify(value));
}

function text(status: number, type: string, body: string): Answer {
  return { status, headers: { 'content-type': type }, body: Buffer.from(body) };
}
