import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import ignore from 'ignore';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';

/** In the workspace folder; gitignore syntax, last match wins. Is itself part of every snapshot. */
export const IGNORE_FILE = '.dumontignore';

/** Names of half-written files of ours; any folder may hold some after a crash. */
export const TEMP_FILE_PREFIX = '.dumont-tmp-';

/** Anything larger is not a rule file. */
const MAX_IGNORE_FILE_BYTES = 1024 * 1024;

/** Which paths neither snapshot nor sync looks at. */
export interface IgnoreRules {
  /** @param relativePath below the workspace folder, `/` between names, no leading or trailing slash */
  ignores(relativePath: string, isDirectory: boolean): boolean;
}

/**
 * The user's rules plus the built-in one, which cannot be overridden: our own temporary files. Nothing else is left out
 * by default, because what is left out is lost with the machine.
 * @throws {DumontError} IO when the rule file exists and cannot be read, LIMIT when it is absurdly large
 */
export async function loadIgnoreRules(root: string): Promise<IgnoreRules> {
  // Without `ignorecase: false` the rule `data` would also leave out `Data`.
  const text = await readRuleFile(join(root, IGNORE_FILE));
  const rules = text.trim() === '' ? null : ignore({ ignorecase: false }).add(text);
  return {
    ignores(relativePath, isDirectory) {
      if (relativePath.startsWith(TEMP_FILE_PREFIX, relativePath.lastIndexOf('/') + 1)) return true;
      return rules !== null && rules.ignores(isDirectory ? `${relativePath}/` : relativePath);
    },
  };
}

/**
 * The text of a rule file, empty when there is none.
 * @throws {DumontError} IO when it exists and cannot be read, LIMIT when it is absurdly large
 */
export async function readRuleFile(path: string): Promise<string> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const { size } = await file.stat();
      if (size > MAX_IGNORE_FILE_BYTES) throw new DumontError('LIMIT', `${path} has ${size} bytes of rules`);
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return '';
    throw toDumontError(error, 'IO', `reading ${path}`);
  }
}
