import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';

/** Where the token of an installation lies, for its owner only. */
export function apiTokenPath(dataDirectory: string): string {
  return join(dataDirectory, 'api-token');
}

/** The installation's API token, made the first time. @throws {DumontError} IO when the data directory is not writable */
export async function ensureApiToken(dataDirectory: string): Promise<string> {
  const path = apiTokenPath(dataDirectory);
  try {
    await mkdir(dataDirectory, { recursive: true, mode: 0o700 });
    const token = `dk_${randomBytes(32).toString('base64url')}`;
    await writeFile(path, `${token}\n`, { mode: 0o600, flag: 'wx' });
    await chmod(path, 0o600);
    return token;
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return readToken(path);
    throw new DumontError('IO', `cannot keep the API token in ${dataDirectory}: ${toDumontError(error).message}`, {
      field: 'DUMONT_DATA_DIR',
      hint: 'Make the folder writable, or set DUMONT_API_TOKEN.',
      cause: error,
    });
  }
}

async function readToken(path: string): Promise<string> {
  const token = (await readFile(path, 'utf8')).trim();
  if (token.length >= 16) return token;
  throw new DumontError('CORRUPT', `${path} holds no usable token`, {
    hint: 'Remove the file; the next start makes a new token.',
    field: 'DUMONT_DATA_DIR',
  });
}
