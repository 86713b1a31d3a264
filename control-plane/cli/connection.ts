import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Connection } from '../src/node/connection-file.ts';
import { connectionFilePath, readConnectionFile } from '../src/node/connection-file.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

const DEFAULT_URL = 'http://127.0.0.1:8766';

/**
 * How to reach the control plane. Each of URL and token comes from the first that has it: option, `DUMONT_URL` /
 * `DUMONT_TOKEN`, the `api-token` file in `DUMONT_DATA_DIR` (token only), the connection file, the default URL. The
 * connection file's token goes only to the connection file's URL: it is not shown to other servers.
 * @throws {DumontError} UNAUTHORIZED when no token is found, USAGE for one that cannot be sent
 */
export async function resolveConnection(
  options: { readonly url?: string | undefined; readonly token?: string | undefined },
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Connection> {
  const given = options.token ?? nonEmpty(environment['DUMONT_TOKEN']) ?? (await readTokenFile(environment));
  const givenUrl = options.url ?? nonEmpty(environment['DUMONT_URL']);
  if (given !== undefined && givenUrl !== undefined) return { url: givenUrl, token: checked(given) };
  const path = connectionFilePath(environment);
  const file = await readConnectionFile(path);
  const url = givenUrl ?? file?.url ?? DEFAULT_URL;
  const token = given ?? (file !== null && sameServer(file.url, url) ? file.token : undefined);
  if (token !== undefined) return { url, token: checked(token) };
  throw new DumontError('UNAUTHORIZED', `no API token for ${url}`, {
    hint: `Start the control plane on this machine (it writes ${path}), or pass --token or DUMONT_TOKEN.`,
  });
}

async function readTokenFile(environment: Readonly<Record<string, string | undefined>>): Promise<string | undefined> {
  const directory = nonEmpty(environment['DUMONT_DATA_DIR']);
  if (directory === undefined) return undefined;
  const text = await readFile(join(directory, 'api-token'), 'utf8').catch(() => '');
  return nonEmpty(text.trim());
}

function checked(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new DumontError('USAGE', 'the API token contains characters that no token has', { field: 'token' });
}

function sameServer(a: string, b: string): boolean {
  return URL.canParse(a) && URL.canParse(b) && new URL(a).origin === new URL(b).origin;
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}
