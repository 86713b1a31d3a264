import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type AgentRelease, agentReleaseSchema, agentVersionSchema } from '@dumont/shared/model/agent-release.ts';
import { compareVersions } from '@dumont/shared/util/compare-versions.ts';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';

/** An operator keeps a handful; a folder with more is somebody else's. */
const MAX_RELEASES = 200;

/**
 * The agent's releases in a downloads folder, newest first by version. A folder whose `release.json` is missing, cannot
 * be understood or names another version is left out: it may be half copied. [] when there is no such folder.
 * @throws {DumontError} IO
 */
export async function listReleases(downloadsDir: string): Promise<readonly AgentRelease[]> {
  let names: readonly string[];
  try {
    names = await readdir(downloadsDir);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw toDumontError(error, 'IO', `listing ${downloadsDir}`);
  }
  const versions = names.filter((name) => agentVersionSchema.safeParse(name).success).slice(0, MAX_RELEASES);
  const releases = await Promise.all(versions.map((version) => readRelease(downloadsDir, version)));
  return releases.filter((release) => release !== null).toSorted((a, b) => compareVersions(b.version, a.version));
}

/** The release of one version; null when there is none that can be understood. @throws {DumontError} IO */
export async function readRelease(downloadsDir: string, version: string): Promise<AgentRelease | null> {
  if (!agentVersionSchema.safeParse(version).success) return null;
  const path = join(downloadsDir, version, 'release.json');
  try {
    const release = agentReleaseSchema.safeParse(tryParseJson(await readFile(path, 'utf8')));
    return release.success && release.data.version === version ? release.data : null;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') return null;
    throw toDumontError(error, 'IO', `reading ${path}`);
  }
}
