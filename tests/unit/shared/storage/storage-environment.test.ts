import { readBucketGrant } from '@dumont/shared/storage/storage-environment.ts';
import { BUCKET_PROVIDERS, providerOfEndpoint, storageProfile } from '@dumont/shared/storage/storage-profile.ts';
import { expect, test } from 'vitest';

const ACCOUNT = '0123456789abcdef0123456789abcdef';

/** The variables of one provider with keys and a bucket set. */
function environmentOf(provider: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const all = { BUCKET: 'snapshots', KEY_ID: 'id', APPLICATION_KEY: 'secret', ...more };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [`${provider.toUpperCase()}_${name}`, value]));
}

test.each([
  ['b2', { REGION: 'us-west-004' }, 'https://s3.us-west-004.backblazeb2.com', 'us-west-004'],
  ['b2', { ENDPOINT: 'https://s3.eu-central-003.backblazeb2.com' }, undefined, 'eu-central-003'],
  ['r2', { ACCOUNT_ID: ACCOUNT }, `https://${ACCOUNT}.r2.cloudflarestorage.com`, 'auto'],
  ['r2', { ACCOUNT_ID: ACCOUNT, JURISDICTION: 'eu' }, `https://${ACCOUNT}.eu.r2.cloudflarestorage.com`, 'auto'],
  ['s3', { REGION: 'eu-west-1' }, 'https://s3.eu-west-1.amazonaws.com', 'eu-west-1'],
  ['wasabi', { REGION: 'us-east-1' }, 'https://s3.wasabisys.com', 'us-east-1'],
  ['wasabi', { REGION: 'eu-central-1' }, 'https://s3.eu-central-1.wasabisys.com', 'eu-central-1'],
  ['wasabi', { ENDPOINT: 'https://s3.eu-west-2.wasabisys.com' }, undefined, 'eu-west-2'],
  ['minio', { ENDPOINT: 'http://10.0.0.1:9000' }, undefined, 'us-east-1'],
] as const)(
  '%s with %j finds endpoint and region',
  (provider, more: Readonly<Record<string, string>>, endpoint, region) => {
    const reading = readBucketGrant(provider, environmentOf(provider, more));
    expect(reading).toMatchObject({
      kind: 'grant',
      grant: {
        profile: provider,
        endpoint: endpoint ?? more['ENDPOINT'],
        region,
        forcePathStyle: storageProfile(provider).forcePathStyle,
      },
    });
  },
);

test.each([
  ['https://s3.us-west-004.backblazeb2.com', 'b2'],
  [`https://${ACCOUNT}.fedramp.r2.cloudflarestorage.com`, 'r2'],
  ['https://s3.amazonaws.com', 's3'],
  ['https://bucket.s3.dualstack.eu-west-1.amazonaws.com', 's3'],
  ['https://s3.cn-north-1.amazonaws.com.cn', 's3'],
  ['https://s3.ap-northeast-1.wasabisys.com', 'wasabi'],
  ['https://s3.us-west-004.backblazeb2.com.evil.example', 'minio'],
  ['http://127.0.0.1:9000', 'minio'],
  ['not a url', 'minio'],
])('the endpoint %s is one of %s', (endpoint, provider) => {
  expect(providerOfEndpoint(endpoint)).toBe(provider);
});

test('S3_ENDPOINT of a service that nobody knows is trusted with nothing', () => {
  const reading = readBucketGrant('s3', environmentOf('s3', { ENDPOINT: 'https://objects.example.com' }));
  expect(reading).toMatchObject({ kind: 'grant', grant: { profile: 'minio' } });
  expect(storageProfile('minio').conditionalPut).toBe('unproven');
});

test.each(BUCKET_PROVIDERS)('%s without variables names everything it needs', (provider) => {
  const reading = readBucketGrant(provider, {});
  const names = reading.kind === 'problems' ? reading.problems.map(({ name }) => name) : [];
  const upper = provider.toUpperCase();
  expect(names).toEqual([`${upper}_ENDPOINT`, `${upper}_BUCKET`, `${upper}_KEY_ID`, `${upper}_APPLICATION_KEY`]);
});

test('a session token goes along, and empty variables count as absent', () => {
  const env = environmentOf('s3', { REGION: 'eu-west-1', SESSION_TOKEN: 'token', ENDPOINT: '' });
  expect(readBucketGrant('s3', env)).toMatchObject({ kind: 'grant', grant: { sessionToken: 'token' } });
});
