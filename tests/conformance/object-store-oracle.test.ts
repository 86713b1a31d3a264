import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import { probeStore } from '@dumont/agent/storage/probe-store.ts';
import { RequestSigner } from '@dumont/control-plane/storage/request-signer.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { BucketGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { oracleObstacle, ORACLE_CREDENTIALS, startOracle, type OracleServer } from '../world/oracle-server.ts';
import { describeObjectStore } from './object-store-contract.ts';

const retrying = { clock: systemClock, random: seededRandom(1) };
/** The first run on a computer builds the server. */
const BUILD_MS = 420_000;

const obstacle = oracleObstacle();
const name = obstacle === undefined ? 'a real S3 server' : `a real S3 server (left out: ${obstacle})`;

describe.skipIf(obstacle !== undefined)(name, () => {
  let server: OracleServer | undefined;
  let opened = 0;

  beforeAll(async () => {
    server = await startOracle();
  }, BUILD_MS);

  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
  });

  /** Every store has a prefix of its own: the bucket is one for all tests. */
  const grant = (): BucketGrant => ({
    kind: 's3',
    endpoint: server?.endpoint ?? '',
    region: 'us-east-1',
    bucket: 'snapshots',
    prefix: `test-${(opened += 1)}/`,
    forcePathStyle: true,
    ...ORACLE_CREDENTIALS,
  });

  describeObjectStore('versitygw', async () => {
    const store = await openStore(grant(), retrying);
    return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
  });

  const openSigned = async () => {
    const account = { ...grant(), prefix: `test-${(opened += 1)}/` };
    const workspaceId = newId('workspace');
    const prefix = account.prefix + workspacePrefix(workspaceId);
    const signer = new RequestSigner(account, systemClock);
    const sign = async (requests: Parameters<RequestSigner['sign']>[1]) => signer.sign({ workspaceId }, requests);
    // A profile that trusts conditional puts, so that their signed header is tried on a real server too.
    const store = await openStore(
      { kind: 'presigned', profile: 's3', signPath: '/sign', prefix },
      { ...retrying, sign },
    );
    return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
  };
  describeObjectStore('requests signed for versitygw', openSigned, { canDelete: false });

  // This server looks and then writes: on a busy machine two racing writers can both win, which the probe must notice.
  test('the probe finds everything in order, and tells whether conditional puts hold in a race', async () => {
    const probe = await probeStore(grant(), retrying);
    expect(probe.checks.filter(({ outcome }) => outcome !== 'ok')).toEqual([]);
    expect(probe).toMatchObject({ verdict: 'ready', profile: 'minio', leftBehind: [] });
    expect(['works', 'ignored']).toContain(probe.conditionalPut);
  });

  test('the probe of a wrong secret says what is wrong', async () => {
    const probe = await probeStore({ ...grant(), secretAccessKey: 'another' }, retrying);
    expect(probe.verdict).toBe('unusable');
    expect(probe.checks[0]).toMatchObject({ name: 'put', outcome: 'failed' });
    expect(probe.checks[0]?.note).toContain('SignatureDoesNotMatch');
  });
});
