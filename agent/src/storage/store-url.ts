import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { storageGrantSchema, type BucketGrant, type DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { readBucketGrant, type Environment } from '@dumont/shared/storage/storage-environment.ts';
import { BUCKET_PROVIDERS, type BucketProviderName } from '@dumont/shared/storage/storage-profile.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { assertPrefix } from './object-store.ts';

const USE = 'Use file:///path/to/folder, or s3://bucket/prefix (b2:, r2:, wasabi: and minio: likewise).';

/**
 * A store written as a URL: `file:///path`, or `<provider>://bucket/prefix` with that provider's variables from the
 * environment. `s3:` is any S3-compatible service: STORAGE_PROVIDER says whose variables count, `S3_…` when absent.
 * @throws {DumontError} USAGE naming everything that is wrong at once
 */
export function grantFromUrl(url: string, environment: Environment): DirectGrant {
  if (!URL.canParse(url)) throw new DumontError('USAGE', `${JSON.stringify(url)} is not a store`, { hint: USE });
  const parsed = new URL(url);
  const scheme = parsed.protocol.slice(0, -1);
  if (scheme === 'file') {
    if (parsed.host !== '') {
      throw new DumontError('USAGE', `${url} names a host; a file store is a folder of this computer`, { hint: USE });
    }
    return { kind: 'file', path: resolve(fileURLToPath(parsed)), prefix: '' };
  }
  if (!isBucketProvider(scheme)) {
    throw new DumontError('USAGE', `${url} has an unknown kind of store`, { hint: USE });
  }
  return bucketGrant(parsed, scheme === 's3' ? providerOfEnvironment(environment) : scheme, environment);
}

/** The provider of `s3:` stores. @throws {DumontError} USAGE for an unknown one */
function providerOfEnvironment(environment: Environment): BucketProviderName {
  const name = environment['STORAGE_PROVIDER'] ?? '';
  // `file` is where the control plane keeps its own; the URL says that this store is another.
  if (name === '' || name === 'file') return 's3';
  if (isBucketProvider(name)) return name;
  throw new DumontError('USAGE', `STORAGE_PROVIDER=${name} is no provider`, {
    field: 'STORAGE_PROVIDER',
    hint: `It is one of ${BUCKET_PROVIDERS.join(', ')}.`,
  });
}

function bucketGrant(url: URL, provider: BucketProviderName, environment: Environment): BucketGrant {
  const path = url.pathname.replace(/^\/+|\/+$/g, '');
  const prefix = path === '' ? '' : `${path}/`;
  const reading = readBucketGrant(provider, environment, { bucket: url.hostname, prefix });
  const problems = reading.kind === 'problems' ? reading.problems.map(({ text }) => text) : [];
  if (url.hostname === '') problems.push('the URL names no bucket');
  try {
    assertPrefix(prefix);
  } catch (error) {
    if (!isDumontError(error)) throw error;
    problems.push(`the prefix ${JSON.stringify(path)} may hold only letters, digits, . _ - and /`);
  }
  if (reading.kind === 'grant') {
    const parsed = storageGrantSchema.safeParse(reading.grant);
    if (parsed.success && parsed.data.kind === 's3' && problems.length === 0) return parsed.data;
    problems.push(...(parsed.error?.issues ?? []).map((issue) => issue.message));
  }
  const field = reading.kind === 'problems' ? reading.problems[0]?.name : undefined;
  throw new DumontError('USAGE', `cannot use ${url.href}:\n  ${problems.join('\n  ')}`, {
    hint: field === undefined ? USE : 'Set the variables named above; docs/STORAGE.md lists them by provider.',
    ...(field === undefined ? {} : { field }),
  });
}

function isBucketProvider(name: string): name is BucketProviderName {
  return (BUCKET_PROVIDERS as readonly string[]).includes(name);
}
