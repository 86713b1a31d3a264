import { z } from 'zod';
import type { BucketGrant } from '../protocol/storage-grant.ts';
import {
  endpointInRegion,
  providerOfEndpoint,
  r2Endpoint,
  regionOfEndpoint,
  storageProfile,
  type BucketProviderName,
} from './storage-profile.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

const optional = z.string().min(1).max(8_192).optional();

/** What a variable's name is made of after the provider's: `B2_` and these. */
const SUFFIXES = {
  ENDPOINT: 'endpoint URL',
  BUCKET: 'bucket',
  REGION: 'region to sign with',
  KEY_ID: 'access key id',
  APPLICATION_KEY: 'secret key',
  SESSION_TOKEN: 'session token of temporary credentials',
} as const;
type Suffix = keyof typeof SUFFIXES;

const INSTEAD_OF_ENDPOINT: Readonly<Record<BucketProviderName, string>> = {
  b2: '; B2_REGION does as well',
  r2: '; R2_ACCOUNT_ID does as well',
  s3: '; for AWS S3_REGION does as well',
  wasabi: '; WASABI_REGION does as well',
  minio: '',
};

/** The variables of every provider, as fields of a process's environment schema. */
export function storageVariables(): Readonly<Record<string, typeof optional>> {
  return {
    ...bucketVariables('b2', { ENDPOINT: '; default: by B2_REGION', REGION: '; default: by B2_ENDPOINT' }),
    ...bucketVariables('r2', { ENDPOINT: '; default: by R2_ACCOUNT_ID', REGION: '; default: auto' }),
    R2_ACCOUNT_ID: optional.describe('Cloudflare R2: account id, 32 hex digits; makes R2_ENDPOINT.'),
    R2_JURISDICTION: optional.describe('Cloudflare R2: jurisdiction of the bucket, eu or fedramp, with R2_ACCOUNT_ID.'),
    ...bucketVariables('s3', { ENDPOINT: '; default: by S3_REGION', REGION: '; default: by S3_ENDPOINT' }),
    ...bucketVariables('wasabi', { ENDPOINT: '; default: by WASABI_REGION', REGION: '; default: by WASABI_ENDPOINT' }),
    ...bucketVariables('minio', { REGION: '; default: us-east-1' }),
    ...grantVariables(),
  };
}

/** What makes short-lived grants for machines; only the control plane reads them. */
function grantVariables(): Readonly<Record<string, typeof optional>> {
  const url = optional.refine(
    (text) => text === undefined || isHttpUrl(text),
    'must be a URL with https:// or http://',
  );
  return {
    B2_API_URL: url.describe(
      `Backblaze B2: base URL of the native API, for STORAGE_GRANTS=b2; default: ${B2_API_URL}.`,
    ),
    R2_API_URL: url.describe(`Cloudflare R2: base URL of the REST API, for STORAGE_GRANTS=r2; default: ${R2_API_URL}.`),
    R2_API_TOKEN: optional.describe(
      'Cloudflare R2: API token that may make temporary credentials, for STORAGE_GRANTS=r2.',
    ),
    S3_ROLE_ARN: optional.describe('AWS S3: role whose session the machines get, for STORAGE_GRANTS=sts.'),
    S3_STS_ENDPOINT: url.describe('AWS S3: endpoint of STS; default: the one of S3_REGION.'),
    WASABI_ROLE_ARN: optional.describe('Wasabi: role whose session the machines get, for STORAGE_GRANTS=sts.'),
    WASABI_STS_ENDPOINT: url.describe(`Wasabi: endpoint of STS; default: ${WASABI_STS_URL}.`),
    MINIO_ROLE_ARN: optional.describe('MinIO or another S3 server: role to assume, if its STS wants one.'),
    MINIO_STS_ENDPOINT: url.describe('MinIO or another S3 server: endpoint of STS; default: MINIO_ENDPOINT.'),
  };
}

export const B2_API_URL = 'https://api.backblazeb2.com';
export const R2_API_URL = 'https://api.cloudflare.com/client/v4';
export const WASABI_STS_URL = 'https://sts.wasabisys.com';

/** A grant for a provider's bucket, or every variable that is missing or wrong with what it is for. */
export type GrantReading =
  | { readonly kind: 'grant'; readonly grant: BucketGrant }
  | { readonly kind: 'problems'; readonly problems: readonly { readonly name: string; readonly text: string }[] };

export interface Place {
  /** Instead of the provider's `_BUCKET`. */
  readonly bucket?: string;
  readonly prefix?: string;
}

/**
 * Reads the variables of one provider. Endpoint and region follow from each other where the provider's names allow it;
 * an `S3_ENDPOINT` of another known service gets that service's profile, one of an unknown service the most careful.
 */
export function readBucketGrant(provider: BucketProviderName, env: Environment, place: Place = {}): GrantReading {
  const problems: { name: string; text: string }[] = [];
  const upper = provider.toUpperCase();
  const read = (suffix: Suffix) => presentText(env[`${upper}_${suffix}`]);
  const required = (suffix: Suffix, found: string | undefined): string => {
    if (found !== undefined) return found;
    const instead = suffix === 'ENDPOINT' ? INSTEAD_OF_ENDPOINT[provider] : '';
    problems.push({
      name: `${upper}_${suffix}`,
      text: `${upper}_${suffix} is not set (${SUFFIXES[suffix]}${instead})`,
    });
    return '';
  };
  const endpoint = required('ENDPOINT', endpointFrom(provider, read, env));
  if (endpoint !== '' && !isHttpUrl(endpoint)) {
    problems.push({ name: `${upper}_ENDPOINT`, text: `${upper}_ENDPOINT must be a URL with https:// or http://` });
  }
  const profile = provider === 's3' || provider === 'minio' ? providerOfEndpoint(endpoint) : provider;
  const sessionToken = read('SESSION_TOKEN');
  const grant: BucketGrant = {
    kind: 's3',
    profile,
    endpoint,
    region: read('REGION') ?? regionOfEndpoint(endpoint) ?? storageProfile(profile).defaultRegion,
    bucket: place.bucket ?? required('BUCKET', read('BUCKET')),
    prefix: place.prefix ?? '',
    accessKeyId: required('KEY_ID', read('KEY_ID')),
    secretAccessKey: required('APPLICATION_KEY', read('APPLICATION_KEY')),
    forcePathStyle: storageProfile(profile).forcePathStyle,
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
  return problems.length === 0 ? { kind: 'grant', grant } : { kind: 'problems', problems };
}

function endpointFrom(
  provider: BucketProviderName,
  read: (suffix: Suffix) => string | undefined,
  env: Environment,
): string | undefined {
  const given = read('ENDPOINT');
  if (given !== undefined) return given;
  const accountId = presentText(env['R2_ACCOUNT_ID']);
  if (provider === 'r2') {
    return accountId === undefined ? undefined : r2Endpoint(accountId, presentText(env['R2_JURISDICTION']));
  }
  // A guessed region would send the key id of somebody's own server to a stranger.
  const region = read('REGION');
  return region === undefined ? undefined : endpointInRegion(provider, region);
}

function bucketVariables(
  provider: BucketProviderName,
  defaults: Readonly<Partial<Record<Suffix, string>>>,
): Readonly<Record<string, typeof optional>> {
  const { title } = storageProfile(provider);
  return Object.fromEntries(
    Object.entries(SUFFIXES).map(([suffix, what]) => [
      `${provider.toUpperCase()}_${suffix}`,
      optional.describe(`${title}: ${what}, with STORAGE_PROVIDER=${provider}${defaults[suffix as Suffix] ?? ''}.`),
    ]),
  );
}

/** Empty text counts as absent, as everywhere in our environments. */
function presentText(value: string | undefined): string | undefined {
  return value === undefined || value === '' ? undefined : value;
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}
