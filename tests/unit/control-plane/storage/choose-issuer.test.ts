import { planGrants, type GrantMode } from '@dumont/control-plane/storage/choose-issuer.ts';
import { readBucketGrant } from '@dumont/shared/storage/storage-environment.ts';
import type { BucketProviderName } from '@dumont/shared/storage/storage-profile.ts';
import { expect, test } from 'vitest';

const ACCOUNT = '0123456789abcdef0123456789abcdef';

function planFor(provider: BucketProviderName, mode: GrantMode, more: Readonly<Record<string, string>> = {}) {
  const upper = provider.toUpperCase();
  const env = {
    STORAGE_PROVIDER: provider,
    [`${upper}_BUCKET`]: 'snapshots',
    [`${upper}_KEY_ID`]: 'id',
    [`${upper}_APPLICATION_KEY`]: 'secret',
    ...(provider === 'minio' ? { MINIO_ENDPOINT: 'http://10.0.0.1:9000' } : { [`${upper}_REGION`]: 'eu-central-1' }),
    ...(provider === 'r2' && { R2_ACCOUNT_ID: ACCOUNT }),
    ...more,
  };
  const reading = readBucketGrant(provider, env);
  if (reading.kind !== 'grant') throw new Error(JSON.stringify(reading.problems));
  return planGrants(mode, reading.grant, env);
}

test.each([
  ['s3', {}, { way: 'presigned' }],
  ['s3', { S3_ROLE_ARN: 'arn' }, { way: 'sts', roleArn: 'arn', stsEndpoint: 'https://sts.eu-central-1.amazonaws.com' }],
  ['wasabi', { WASABI_ROLE_ARN: 'arn' }, { way: 'sts', roleArn: 'arn', stsEndpoint: 'https://sts.wasabisys.com' }],
  ['wasabi', { WASABI_ROLE_ARN: '' }, { way: 'presigned' }],
  ['minio', {}, { way: 'presigned' }],
  ['r2', { R2_API_TOKEN: 'token' }, { way: 'presigned' }],
  ['b2', {}, { way: 'b2', apiUrl: 'https://api.backblazeb2.com' }],
] as const)('auto at %s with %j is never the keys of the account', (provider, more, plan) => {
  expect(planFor(provider, 'auto', more)).toEqual(plan);
});

test.each([
  ['minio', 'sts', {}, { way: 'sts', stsEndpoint: 'http://10.0.0.1:9000', roleArn: undefined }],
  ['r2', 'r2', { R2_API_TOKEN: 'token' }, { way: 'r2', accountId: ACCOUNT, apiToken: 'token' }],
  ['s3', 'account', {}, { way: 'account' }],
] as const)('%s does %s when asked to', (provider, mode, more, plan) => {
  expect(planFor(provider, mode, more)).toMatchObject(plan);
});

test.each([
  ['s3', 'sts', 'S3_ROLE_ARN'],
  ['r2', 'r2', 'R2_API_TOKEN'],
  ['b2', 'sts', 'STORAGE_GRANTS'],
  ['s3', 'b2', 'STORAGE_GRANTS'],
] as const)('%s cannot do %s, and the words name %s', (provider, mode, field) => {
  expect(() => planFor(provider, mode)).toThrow(expect.objectContaining({ code: 'USAGE', field }) as Error);
});
