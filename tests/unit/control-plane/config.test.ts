import { join } from 'node:path';
import { controlEnvironmentSchema, readControlConfig } from '@dumont/control-plane/config.ts';
import { describeEnvironment } from '@dumont/shared/node/config.ts';
import { storageGrantSchema } from '@dumont/shared/protocol/storage-grant.ts';
import { expect, test } from 'vitest';

const B2 = {
  STORAGE_PROVIDER: 'b2',
  B2_ENDPOINT: 'https://s3.eu-central-003.backblazeb2.com',
  B2_BUCKET: 'snapshots',
  B2_REGION: 'eu-central-003',
  B2_KEY_ID: 'id',
  B2_APPLICATION_KEY: 'a-very-secret-key',
};

test('without any variable it listens on this computer only and keeps everything in one folder', () => {
  const { config, secrets } = readControlConfig({ DUMONT_DATA_DIR: '/data' });
  expect(config).toMatchObject({ host: '127.0.0.1', port: 8_766, dataDirectory: '/data', storageName: 'file' });
  expect(config.local).toEqual({ enabled: true, directory: join('/data', 'machines'), bootScale: 1 });
  expect(secrets).toEqual({
    databaseUrl: undefined,
    apiToken: undefined,
    storage: { kind: 'file', path: join('/data', 'objects'), prefix: '' },
    grants: { way: 'file' },
    snapshotPassword: undefined,
    clouds: { gcp: undefined, tensordock: undefined },
  });
});

test('a config can be logged: it holds no secret', () => {
  const { config, secrets } = readControlConfig({
    ...B2,
    DUMONT_API_TOKEN: 'a-very-secret-token',
    DATABASE_URL: 'postgres://u:very-secret@h/d',
    SNAPSHOT_PASSWORD: 'a-very-secret-password',
  });
  expect(JSON.stringify(config)).not.toMatch(/very-secret/);
  expect(secrets).toMatchObject({ snapshotPassword: 'a-very-secret-password' });
  expect(secrets).toMatchObject({ apiToken: 'a-very-secret-token', databaseUrl: 'postgres://u:very-secret@h/d' });
});

test('the variables of a provider make a grant', () => {
  const { config, secrets } = readControlConfig(B2);
  expect(config.storageName).toBe('b2');
  expect(storageGrantSchema.parse(secrets.storage)).toEqual({
    kind: 's3',
    profile: 'b2',
    endpoint: B2.B2_ENDPOINT,
    bucket: 'snapshots',
    region: 'eu-central-003',
    accessKeyId: 'id',
    secretAccessKey: 'a-very-secret-key',
    prefix: '',
    forcePathStyle: true,
  });
});

test.each([
  [{ STORAGE_PROVIDER: 'b2' }, ['B2_ENDPOINT', 'B2_BUCKET', 'B2_KEY_ID', 'B2_APPLICATION_KEY']],
  [{ ...B2, B2_BUCKET: '' }, ['B2_BUCKET']],
  [{ ...B2, B2_ENDPOINT: 's3.example.com' }, ['B2_ENDPOINT']],
  [{ STORAGE_PROVIDER: 'minio', S3_BUCKET: 'b' }, ['MINIO_BUCKET']],
  [{ STORAGE_PROVIDER: 'floppy' }, ['STORAGE_PROVIDER']],
  [
    { DUMONT_PORT: '70000', DATABASE_URL: 'mysql://h/d', DUMONT_API_TOKEN: 'short', DUMONT_PUBLIC_URL: 'ftp://h' },
    ['DUMONT_PORT', 'DATABASE_URL', 'DUMONT_API_TOKEN', 'DUMONT_PUBLIC_URL'],
  ],
])('%j names what is wrong', (environment, names) => {
  let failure: unknown;
  try {
    readControlConfig(environment);
  } catch (error) {
    failure = error;
  }
  expect(failure).toMatchObject({ code: 'USAGE', hint: expect.any(String) as string });
  for (const name of names) expect((failure as Error).message).toContain(name);
});

test('every variable says what it is for', () => {
  for (const { name, description } of describeEnvironment(controlEnvironmentSchema)) {
    expect([name, description.length > 10]).toEqual([name, true]);
  }
});
