import { forgetSecretVariables, withoutSecretVariables } from '@dumont/agent/host/secret-variables.ts';
import { expect, test } from 'vitest';

const OURS = {
  DUMONT_ENROL_TOKEN: 'x',
  DUMONT_TOKEN: 'x',
  DUMONT_API_TOKEN: 'x',
  SNAPSHOT_PASSWORD: 'x',
  SNAPSHOT_NEW_PASSWORD: 'x',
  B2_APPLICATION_KEY: 'x',
  MINIO_SESSION_TOKEN: 'x',
};
const OTHERS = {
  PATH: '/bin',
  HF_TOKEN: 'of the user',
  AWS_SECRET_ACCESS_KEY: 'of the user',
  DUMONT_LOG_LEVEL: 'info',
};

test('secrets of the agent and of stores are taken out, those of the user are their own', () => {
  expect(withoutSecretVariables({ ...OURS, ...OTHERS, UNSET: undefined })).toEqual(OTHERS);
  const environment: Record<string, string | undefined> = { ...OURS, ...OTHERS };
  forgetSecretVariables(environment);
  expect(environment).toEqual(OTHERS);
});
