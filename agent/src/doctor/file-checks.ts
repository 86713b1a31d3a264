import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import type { Situation } from './situation.ts';

/** Rights of the group and of others. */
const OTHERS = 0o077;

export const FILE_CHECKS: readonly Check[] = [{ id: 'permissions', title: 'Files with secrets', run: checkFiles }];

async function checkFiles(situation: Situation): Promise<Finding> {
  const { layout, stateDir, envFile } = situation;
  if (envFile.kind === 'unreadable') {
    return warn(`${layout.envFile} cannot be read (${envFile.reason})`, 'Run the doctor as the user of the agent.');
  }
  const files = [layout.envFile, join(stateDir, 'credential.json'), join(stateDir, 'agent.json')];
  const found = (await Promise.all(files.map(look))).filter((each) => each !== null);
  if (found.length === 0) return skip('there are none: no agent is set up here');
  const open = found.filter(({ mode }) => (mode & OTHERS) !== 0).map(({ path }) => path);
  if (open.length > 0) return fail(`others may read ${open.join(', ')}`, `chmod 600 ${open.join(' ')}`);
  const uid = process.getuid?.() ?? 0;
  const foreign = found.filter((each) => each.uid !== uid).map(({ path }) => path);
  if (foreign.length > 0 && uid === 0) {
    return warn(`${foreign.join(', ')} belong to another user than root`, `chown root ${foreign.join(' ')}`);
  }
  return ok(`${found.length} of them, for their owner only`);
}

interface Found {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
}

/** Null for a file that is not there or in a folder that is closed to us. */
async function look(path: string): Promise<Found | null> {
  try {
    const { mode, uid } = await stat(path);
    return { path, mode, uid };
  } catch (error) {
    if (['ENOENT', 'EACCES', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return null;
    throw error;
  }
}
