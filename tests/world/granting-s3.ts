import { openStore, type OpenStore } from '@dumont/agent/storage/open-store.ts';
import { issuerFor, type GrantPlan } from '@dumont/control-plane/storage/choose-issuer.ts';
import type { GrantHolder, GrantIssuer } from '@dumont/control-plane/storage/grant-issuer.ts';
import { RequestSigner } from '@dumont/control-plane/storage/request-signer.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { BucketGrant, StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { BucketProviderName } from '@dumont/shared/storage/storage-profile.ts';
import { systemClock, type Clock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { R2_ACCOUNT_ID, R2_API_PATH, R2_API_TOKEN } from '../simulators/s3/key-apis.ts';
import { startS3Simulator, type S3Simulator } from '../simulators/s3/s3-simulator.ts';
import { grantFor, S3_CREDENTIALS } from './simulated-s3.ts';

/** Every way that gives machines less than the account, with the service it is for. */
export const NARROW_WAYS = [
  ['sts', 's3'],
  ['sts', 'wasabi'],
  ['sts', 'minio'],
  ['r2', 'r2'],
  ['b2', 'b2'],
  ['presigned', 'minio'],
  ['presigned', 'r2'],
  ['presigned', 'b2'],
] as const satisfies readonly (readonly [GrantPlan['way'], BucketProviderName])[];

type NarrowWay = readonly [(typeof NARROW_WAYS)[number][0], BucketProviderName];

/** A simulated service, the operator's account at it, and what makes grants of that. */
export interface GrantingS3 extends AsyncDisposable {
  readonly simulator: S3Simulator;
  readonly account: BucketGrant;
  readonly issuer: GrantIssuer;
  holder(): GrantHolder;
  issue(holder: GrantHolder): Promise<StorageGrant>;
  /** The store as the holder of this grant opens it, whatever prefix the thief of a grant may set. */
  open(grant: StorageGrant, holder: GrantHolder, prefix?: string): Promise<OpenStore>;
}

export async function startGrantingS3(
  [way, profile]: NarrowWay,
  options: { readonly db: Database; readonly clock?: Clock; readonly ttlMs?: number },
): Promise<GrantingS3> {
  const { db, clock = systemClock } = options;
  const simulator = await startS3Simulator({
    ...S3_CREDENTIALS,
    buckets: ['snapshots'],
    mode: profile,
    clock,
    pageSize: 3,
  });
  const account = grantFor(simulator, { profile, region: 'us-east-1', prefix: 'store/' });
  const plan = planOf(way, simulator.endpoint);
  const issuer = issuerFor(plan, account, {
    clock,
    db,
    ...(options.ttlMs === undefined ? {} : { ttlMs: options.ttlMs }),
  });
  const signer = new RequestSigner(account, clock);
  const { signal } = new AbortController();
  const opened: OpenStore[] = [];
  return {
    simulator,
    account,
    issuer,
    holder: () => ({ workspaceId: newId('workspace'), instanceId: newId('instance') }),
    issue: (holder) => issuer.issue(holder, { signal }),
    async open(grant, holder, prefix = grant.prefix) {
      const sign = async (requests: Parameters<RequestSigner['sign']>[1]) => signer.sign(holder, requests);
      const store = await openStore({ ...grant, prefix }, { clock, random: seededRandom(1), sign });
      opened.push(store);
      return store;
    },
    async [Symbol.asyncDispose]() {
      for (const store of opened) await store[Symbol.asyncDispose]();
      await (issuer as Partial<AsyncDisposable>)[Symbol.asyncDispose]?.();
      await simulator[Symbol.asyncDispose]();
    },
  };
}

function planOf(way: NarrowWay[0], endpoint: string): GrantPlan {
  switch (way) {
    case 'sts':
      return { way, stsEndpoint: endpoint, roleArn: 'arn:aws:iam::123456789012:role/machines' };
    case 'r2':
      return { way, accountId: R2_ACCOUNT_ID, apiUrl: endpoint + R2_API_PATH, apiToken: R2_API_TOKEN };
    case 'b2':
      return { way, apiUrl: endpoint };
    case 'presigned':
      return { way };
  }
}
