import { readFile } from 'node:fs/promises';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { openKeyRing, type KeyRing, type OpenRingOptions } from '../secrets/key-ring.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { FlagSpec, ParsedArguments } from './arguments.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Longer ones are a mistake, such as the wrong file. */
const MAX_PASSWORD_LENGTH = 1_024;

/** For every command that reads or writes what may be encrypted. There is no flag for a password itself: `ps` shows those. */
export const PASSWORD_FILE_FLAG: FlagSpec = {
  value: 'file',
  help: 'File with the password of an encrypted store; SNAPSHOT_PASSWORD when absent.',
};
export const NEW_PASSWORD_FILE_FLAG: FlagSpec = {
  value: 'file',
  help: 'File with the new password; SNAPSHOT_NEW_PASSWORD when absent.',
};

/** The password of the store, from `--password-file` or SNAPSHOT_PASSWORD; null without one. @throws {DumontError} USAGE, IO */
export function passwordOf(args: ParsedArguments, environment: Environment = process.env): Promise<string | null> {
  return passwordFrom(args.text('password-file'), environment, 'SNAPSHOT_PASSWORD');
}

/** The password to be set, from `--new-password-file` or SNAPSHOT_NEW_PASSWORD. @throws {DumontError} USAGE, IO */
export async function newPasswordOf(args: ParsedArguments, environment: Environment = process.env): Promise<string> {
  const password = await passwordFrom(args.text('new-password-file'), environment, 'SNAPSHOT_NEW_PASSWORD');
  if (password !== null) return password;
  throw new DumontError('USAGE', 'no new password was given', {
    field: 'SNAPSHOT_NEW_PASSWORD',
    hint: 'Set SNAPSHOT_NEW_PASSWORD, or name a file with --new-password-file.',
  });
}

/** Opens the store a command works on with the password it was given. @throws {DumontError} as `openKeyRing`; USAGE, IO */
export async function openRingOf(
  args: ParsedArguments,
  store: ObjectStore,
  options: OpenRingOptions,
): Promise<KeyRing | null> {
  return openKeyRing(store, await passwordOf(args), options);
}

async function passwordFrom(path: string | undefined, environment: Environment, name: string): Promise<string | null> {
  const password = path === undefined ? (environment[name] ?? '') : await readPassword(path);
  if (password.length > MAX_PASSWORD_LENGTH) {
    throw new DumontError('USAGE', `a password has at most ${MAX_PASSWORD_LENGTH} characters`, { field: name });
  }
  if (password === '' && path !== undefined) {
    throw new DumontError('USAGE', `the password file ${path} is empty`, { field: 'password-file' });
  }
  return password === '' ? null : password;
}

/** The file's first line: editors end it with a line break that nobody means. */
async function readPassword(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).split(/\r?\n/, 1)[0] ?? '';
  } catch (error) {
    throw toDumontError(error, 'IO', `reading the password file ${path}`);
  }
}
