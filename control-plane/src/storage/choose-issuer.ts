import type { BucketGrant, DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import {
  B2_API_URL,
  R2_API_URL,
  WASABI_STS_URL,
  type Environment,
} from '@dumont/shared/storage/storage-environment.ts';
import { providerOfEndpoint, type BucketProviderName } from '@dumont/shared/storage/storage-profile.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Database } from '../store/database.ts';
import { B2Issuer } from './b2-issuer.ts';
import { GRANT_TTL_MS, type GrantIssuer } from './grant-issuer.ts';
import { accountIssuer, fileIssuer, presignedIssuer } from './plain-issuers.ts';
import { R2Issuer } from './r2-issuer.ts';
import { StsIssuer } from './sts-issuer.ts';

/** Values of STORAGE_GRANTS. */
export const GRANT_MODES = ['auto', 'sts', 'r2', 'b2', 'presigned', 'account'] as const;
export type GrantMode = (typeof GRANT_MODES)[number];

/** How grants are made, without the means: what the configuration says. `issuer` needs a database for B2. */
export type GrantPlan =
  | { readonly way: 'file' | 'presigned' | 'account' }
  | { readonly way: 'sts'; readonly stsEndpoint: string; readonly roleArn: string | undefined }
  | { readonly way: 'r2'; readonly accountId: string; readonly apiUrl: string; readonly apiToken: string }
  | { readonly way: 'b2'; readonly apiUrl: string };

/**
 * Which way this configuration means. `auto` takes the strongest that the variables allow: STS with a role, B2 keys at B2,
 * else signed requests, which work with every service. Never the account's own keys, and never R2's credentials, which
 * could delete. Pure.
 * @throws {DumontError} USAGE naming what is missing for the way that was asked for
 */
export function planGrants(mode: GrantMode, storage: DirectGrant, env: Environment): GrantPlan {
  if (storage.kind === 'file') return { way: 'file' };
  const profile = storage.profile ?? providerOfEndpoint(storage.endpoint);
  const upper = (env['STORAGE_PROVIDER'] ?? profile).toUpperCase();
  switch (mode === 'auto' ? automatic(profile, env[`${upper}_ROLE_ARN`]) : mode) {
    case 'presigned':
      return { way: 'presigned' };
    case 'account':
      return { way: 'account' };
    case 'b2':
      requireProfile('b2', 'b2', profile);
      return { way: 'b2', apiUrl: trimmed(present(env['B2_API_URL']) ?? B2_API_URL) };
    case 'r2': {
      requireProfile('r2', 'r2', profile);
      const accountId = present(env['R2_ACCOUNT_ID']) ?? /^([0-9a-f]{32})\./.exec(new URL(storage.endpoint).host)?.[1];
      const apiUrl = trimmed(present(env['R2_API_URL']) ?? R2_API_URL);
      return {
        way: 'r2',
        apiUrl,
        accountId: required('R2_ACCOUNT_ID', accountId),
        apiToken: required('R2_API_TOKEN', env['R2_API_TOKEN']),
      };
    }
    case 'sts':
      return planSts(profile, upper, storage, env);
  }
}

/** The issuer of a plan. `account` stays in it: only what it issues leaves this process. */
export function issuerFor(
  plan: GrantPlan,
  storage: DirectGrant,
  means: { readonly clock: Clock; readonly db: Database; readonly ttlMs?: number },
): GrantIssuer {
  if (storage.kind === 'file') return fileIssuer(storage);
  const parts = { account: storage, ttlMs: means.ttlMs ?? GRANT_TTL_MS, clock: means.clock, db: means.db };
  switch (plan.way) {
    case 'file':
      throw new DumontError('INTERNAL', 'a bucket is no folder');
    case 'presigned':
      return presignedIssuer(storage);
    case 'account':
      return accountIssuer(storage);
    case 'sts':
      return new StsIssuer({ ...parts, ...plan });
    case 'r2':
      return new R2Issuer({ ...parts, ...plan });
    case 'b2':
      return new B2Issuer({ ...parts, ...plan });
  }
}

function automatic(profile: BucketProviderName, roleArn: string | undefined): Exclude<GrantMode, 'auto'> {
  if (profile === 'b2') return 'b2';
  return present(roleArn) === undefined ? 'presigned' : 'sts';
}

function planSts(profile: BucketProviderName, upper: string, storage: BucketGrant, env: Environment): GrantPlan {
  const roleArn = present(env[`${upper}_ROLE_ARN`]);
  const given = present(env[`${upper}_STS_ENDPOINT`]);
  switch (profile) {
    case 's3': {
      const suffix = storage.region.startsWith('cn-') ? '.cn' : '';
      const stsEndpoint = given ?? `https://sts.${storage.region}.amazonaws.com${suffix}`;
      return { way: 'sts', stsEndpoint, roleArn: required(`${upper}_ROLE_ARN`, roleArn) };
    }
    case 'wasabi':
      return { way: 'sts', stsEndpoint: given ?? WASABI_STS_URL, roleArn: required(`${upper}_ROLE_ARN`, roleArn) };
    case 'minio':
      return { way: 'sts', stsEndpoint: given ?? storage.endpoint, roleArn };
    case 'b2':
    case 'r2':
      throw new DumontError('USAGE', `STORAGE_GRANTS=sts: ${profile} has no STS`, {
        field: 'STORAGE_GRANTS',
        hint: `Use auto, ${profile} or presigned.`,
      });
  }
}

function requireProfile(mode: GrantMode, wanted: BucketProviderName, profile: BucketProviderName): void {
  if (profile === wanted) return;
  throw new DumontError('USAGE', `STORAGE_GRANTS=${mode} is for ${wanted}, the storage is ${profile}`, {
    field: 'STORAGE_GRANTS',
    hint: 'Use auto, or presigned, which works with every service.',
  });
}

function required(name: string, value: string | undefined): string {
  const found = present(value);
  if (found !== undefined) return found;
  throw new DumontError('USAGE', `STORAGE_GRANTS needs ${name}`, {
    field: name,
    hint: 'Set it, or set STORAGE_GRANTS=presigned, which needs nothing more.',
  });
}

function present(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

function trimmed(url: string): string {
  return url.replace(/\/+$/, '');
}
