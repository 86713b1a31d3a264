import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { storageGrantSchema, type StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { assertPrefix } from './object-store.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Settings of `s3://` stores and whether they must be set. */
const S3_VARIABLES = {
  S3_ENDPOINT: 'URL of the S3-compatible service',
  S3_REGION: 'region the service signs for; us-east-1 when absent',
  S3_KEY_ID: 'access key id',
  S3_APPLICATION_KEY: 'secret key',
} as const;

const USE = 'Use file:///path/to/folder or s3://bucket/prefix.';

/**
 * A store written as a URL: `file:///path`, or `s3://bucket/prefix` with {@link S3_VARIABLES} from the environment.
 * @throws {DumontError} USAGE naming everything that is wrong at once
 */
export function grantFromUrl(url: string, environment: Environment): StorageGrant {
  if (!URL.canParse(url)) throw new DumontError('USAGE', `${JSON.stringify(url)} is not a store`, { hint: USE });
  const parsed = new URL(url);
  switch (parsed.protocol) {
    case 'file:':
      if (parsed.host !== '') {
        throw new DumontError('USAGE', `${url} names a host; a file store is a folder of this computer`, { hint: USE });
      }
      return { kind: 'file', path: resolve(fileURLToPath(parsed)), prefix: '' };
    case 's3:':
      return s3Grant(parsed, environment);
    default:
      throw new DumontError('USAGE', `${url} has an unknown kind of store`, { hint: USE });
  }
}

function s3Grant(url: URL, environment: Environment): StorageGrant {
  const problems: string[] = [];
  const fields: string[] = [];
  const read = (name: keyof typeof S3_VARIABLES): string => {
    const value = environment[name] ?? '';
    if (value === '' && name !== 'S3_REGION') {
      problems.push(`${name} is not set (${S3_VARIABLES[name]})`);
      fields.push(name);
    }
    return value;
  };
  const endpoint = read('S3_ENDPOINT');
  if (endpoint !== '' && !/^https?:\/\//.test(endpoint)) {
    problems.push('S3_ENDPOINT must start with https:// or http://');
    fields.push('S3_ENDPOINT');
  }
  const path = url.pathname.replace(/^\/+|\/+$/g, '');
  const grant = {
    kind: 's3',
    endpoint,
    region: read('S3_REGION') || 'us-east-1',
    bucket: url.hostname,
    prefix: path === '' ? '' : `${path}/`,
    accessKeyId: read('S3_KEY_ID'),
    secretAccessKey: read('S3_APPLICATION_KEY'),
  };
  if (grant.bucket === '') problems.push('the URL names no bucket');
  try {
    assertPrefix(grant.prefix);
  } catch (error) {
    if (!isDumontError(error)) throw error;
    problems.push(`the prefix ${JSON.stringify(path)} may hold only letters, digits, . _ - and /`);
  }
  const parsed = storageGrantSchema.safeParse(grant);
  if (problems.length === 0 && parsed.success) return parsed.data;
  const unsaid = problems.length > 0 || parsed.success ? [] : parsed.error.issues.map((issue) => issue.message);
  throw new DumontError('USAGE', `cannot use ${url.href}:\n  ${[...problems, ...unsaid].join('\n  ')}`, {
    hint: USE,
    ...(fields[0] === undefined ? {} : { field: fields[0] }),
  });
}
