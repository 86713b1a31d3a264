import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';

const connectionSchema = z.object({ url: z.url({ protocol: /^https?$/ }), token: z.string().min(1) });

/** How the programs of this user reach the control plane; holds the API token, so only its owner may read it. */
export type Connection = z.infer<typeof connectionSchema>;

/** `DUMONT_CONNECTION_FILE`, else `dumont/connection.json` in the user's configuration directory. */
export function connectionFilePath(environment: Readonly<Record<string, string | undefined>>): string {
  const chosen = environment['DUMONT_CONNECTION_FILE'];
  if (chosen !== undefined && chosen !== '') return chosen;
  const configured = environment['XDG_CONFIG_HOME'];
  const configDirectory = configured === undefined || configured === '' ? join(homedir(), '.config') : configured;
  return join(configDirectory, 'dumont', 'connection.json');
}

/**
 * Null without a file.
 * @throws {DumontError} CORRUPT when it is not a connection file, IO when it cannot be read
 */
export async function readConnectionFile(path: string): Promise<Connection | null> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw new DumontError('IO', `cannot read the connection file ${path}`, {
      hint: 'Pass --url and --token instead, or mend the file.',
      cause: error,
    });
  });
  if (text === null) return null;
  const parsed = connectionSchema.safeParse(tryParseJson(text));
  if (parsed.success) return parsed.data;
  throw new DumontError('CORRUPT', `${path} is not a connection file`, {
    hint: 'Delete it: the control plane writes a new one when it starts.',
  });
}

/** Replaces the file in one step, readable by its owner only. @throws {DumontError} IO */
export async function writeConnectionFile(path: string, connection: Connection): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(temporary, `${JSON.stringify(connection, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new DumontError('IO', `cannot write the connection file ${path}`, {
      field: 'DUMONT_CONNECTION_FILE',
      cause: error,
    });
  }
}

/** Removes the file if it still describes this connection: another control plane may have written its own since. */
export async function removeConnectionFile(path: string, connection: Connection): Promise<void> {
  const present = await readConnectionFile(path).catch(() => null);
  if (present?.url === connection.url && present.token === connection.token) await rm(path, { force: true });
}
