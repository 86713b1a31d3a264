import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { agentReleaseSchema, agentVersionSchema, type AgentRelease } from '@dumont/shared/model/agent-release.ts';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';

/** Builds of the agent found in a folder `<folder>/<version>/release.json`. */

const RELEASE_FILE = 'release.json';
/** Versions looked at in one folder: years of releases. */
const MAX_RELEASES = 1_000;

/** The release of one version; null when there is none or its release.json is not one. @throws {DumontError} IO */
export async function readRelease(folder: string, version: string): Promise<AgentRelease | null> {
  if (!agentVersionSchema.safeParse(version).success) return null;
  let text: string;
  try {
    text = await readFile(join(folder, version, RELEASE_FILE), 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return null;
    throw toDumontError(error, 'IO', `reading the release ${version}`);
  }
  const parsed = agentReleaseSchema.safeParse(tryParseJson(text));
  return parsed.success && parsed.data.version === version ? parsed.data : null;
}

/** The highest version built, null without any. @throws {DumontError} IO */
export async function newestRelease(folder: string): Promise<AgentRelease | null> {
  let names: readonly string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw toDumontError(error, 'IO', `reading ${folder}`);
  }
  const versions = names.filter((name) => agentVersionSchema.safeParse(name).success);
  for (const version of versions.toSorted(compareVersions).toReversed().slice(0, MAX_RELEASES)) {
    const release = await readRelease(folder, version);
    if (release !== null) return release;
  }
  return null;
}

/** Precedence of SemVer 2.0.0 §11; build metadata ranks by its text, so that the order is total. Pure. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [splitVersion(a), splitVersion(b)];
  for (const [index, part] of left.core.entries()) {
    const difference = part - (right.core[index] ?? 0);
    if (difference !== 0) return difference;
  }
  if (left.suffix.length === 0 || right.suffix.length === 0) {
    const difference = right.suffix.length - left.suffix.length;
    if (difference !== 0) return difference;
  }
  for (const [index, part] of left.suffix.entries()) {
    const other = right.suffix[index];
    if (other === undefined) return 1;
    const difference = compareIdentifiers(part, other);
    if (difference !== 0) return difference;
  }
  return left.suffix.length - right.suffix.length || compareText(a, b);
}

function splitVersion(version: string): { readonly core: readonly number[]; readonly suffix: readonly string[] } {
  const [plain = ''] = version.split('+', 1);
  const dash = plain.indexOf('-');
  const core = dash === -1 ? plain : plain.slice(0, dash);
  return { core: core.split('.').map(Number), suffix: dash === -1 ? [] : plain.slice(dash + 1).split('.') };
}

/** Numbers rank below words, and by their value. */
function compareIdentifiers(a: string, b: string): number {
  const [isNumber, isOtherNumber] = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (isNumber && isOtherNumber) return Number(a) - Number(b);
  if (isNumber !== isOtherNumber) return isNumber ? -1 : 1;
  return compareText(a, b);
}

function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
