import { readFile } from 'node:fs/promises';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

export type EnvFile =
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreadable'; readonly reason: string }
  | { readonly kind: 'read'; readonly variables: Readonly<Record<string, string>> };

/** The environment of an installed agent. Never throws. */
export async function readEnvFile(path: string): Promise<EnvFile> {
  try {
    return { kind: 'read', variables: parseEnvFile(await readFile(path, 'utf8')) };
  } catch (error) {
    const code = systemErrorCode(error) ?? 'unknown error';
    return code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'absent' } : { kind: 'unreadable', reason: code };
  }
}

/**
 * Lines of `NAME='value'` as a shell reads them: quotes single or double or none, `'\''` for a quote in single ones.
 * Other lines are left out. Pure.
 */
export function parseEnvFile(text: string): Readonly<Record<string, string>> {
  const found = text.split('\n').flatMap((line) => {
    const [, name, value] = /^\s*(?:export\s+)?([A-Za-z_]\w*)=(.*?)\s*$/.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, unquote(value)] as const];
  });
  return Object.fromEntries(found);
}

function unquote(value: string): string {
  return value.replace(/'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)/g, (_, single?: string, double?: string, bare?: string) => {
    return single ?? double?.replace(/\\(["\\$`])/g, '$1') ?? bare ?? '';
  });
}
