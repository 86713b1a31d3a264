import { readControlConfig } from '@dumont/control-plane/config.ts';
import { cloudProviders } from '@dumont/control-plane/providers/cloud-providers.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';

const PUBLIC = { DUMONT_PUBLIC_URL: 'https://control.example' };
const GCP = { ...PUBLIC, DUMONT_GCP_PROJECT: 'p', DUMONT_GCP_CREDENTIALS: '{"private_key":"very-secret"}' };
const TENSORDOCK = {
  ...PUBLIC,
  DUMONT_TENSORDOCK_API_KEY: 'very-secret',
  DUMONT_TENSORDOCK_SSH_KEY: 'ssh-ed25519 AAAA me@here',
};

test('a cloud is used once its first variable is set, with defaults for the rest', () => {
  const { config, secrets } = readControlConfig({ ...GCP, ...TENSORDOCK });
  expect(secrets.clouds).toEqual({
    gcp: {
      api: { projectId: 'p', credentials: { json: GCP.DUMONT_GCP_CREDENTIALS } },
      shape: { machineType: 'e2-medium', diskGb: 100 },
    },
    tensordock: { apiKey: 'very-secret', sshPublicKey: 'ssh-ed25519 AAAA me@here', diskGb: 100 },
  });
  expect(JSON.stringify(config)).not.toContain('very-secret');
  const parts = { clock: systemClock, random: seededRandom(1), log: createLogger('test', 'silent') };
  expect(cloudProviders(secrets.clouds, parts).map(({ name }) => name)).toEqual(['gcp', 'tensordock']);
});

test("Google's own variable alone rents nothing: it may be there for other programs", () => {
  const { secrets } = readControlConfig({ GOOGLE_APPLICATION_CREDENTIALS: '/key.json' });
  expect(secrets.clouds.gcp).toBeUndefined();
});

test.each([
  [{ ...PUBLIC, DUMONT_GCP_PROJECT: 'p' }, 'GOOGLE_APPLICATION_CREDENTIALS'],
  [{ ...TENSORDOCK, DUMONT_TENSORDOCK_SSH_KEY: '' }, 'DUMONT_TENSORDOCK_SSH_KEY'],
  [{ ...TENSORDOCK, DUMONT_TENSORDOCK_SSH_KEY: '-----BEGIN OPENSSH PRIVATE KEY-----' }, 'DUMONT_TENSORDOCK_SSH_KEY'],
  [{ ...TENSORDOCK, DUMONT_TENSORDOCK_DISK_GB: '50' }, 'DUMONT_TENSORDOCK_DISK_GB'],
  [{ ...GCP, DUMONT_GCP_ZONES: 'us-west4-a, us-west9-a' }, 'DUMONT_GCP_ZONES'],
  [{ ...GCP, DUMONT_PUBLIC_URL: '' }, 'DUMONT_PUBLIC_URL'],
])('half a configuration is refused, naming what is missing: %j', (environment, field) => {
  expect(() => readControlConfig(environment)).toThrow(expect.objectContaining({ code: 'USAGE', field }));
});

test('a simulator needs no address that the internet reaches', () => {
  const { secrets } = readControlConfig({
    ...TENSORDOCK,
    DUMONT_PUBLIC_URL: '',
    DUMONT_TENSORDOCK_URL: 'http://127.0.0.1:1/api/v2/',
  });
  expect(secrets.clouds.tensordock?.url).toBe('http://127.0.0.1:1/api/v2');
});
