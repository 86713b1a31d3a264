import { access, constants, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { formatBytes } from '@dumont/shared/util/units.ts';
import { IGNORE_FILE, loadIgnoreRules, readRuleFile } from '../workspace/ignore.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import { nearestExisting } from './mounts.ts';
import type { Situation } from './situation.ts';

export const WORKSPACE_CHECKS: readonly Check[] = [
  { id: 'workspace', title: 'Workspace folder', run: checkFolder },
  { id: 'workspace-content', title: 'Workspace content', run: checkContent },
  { id: 'ignore-file', title: IGNORE_FILE, run: checkIgnoreFile },
  { id: 'shell', title: 'Shell for commands', run: checkShell },
];

async function checkFolder({ workspaceDir, isConfigured, environment }: Situation): Promise<Finding> {
  try {
    if (!(await stat(workspaceDir)).isDirectory()) {
      return fail(`${workspaceDir} is no folder`, 'Set DUMONT_WORKSPACE_DIR to a folder.');
    }
    await access(workspaceDir, constants.R_OK | constants.W_OK | constants.X_OK);
    return ok(`${workspaceDir} is readable and writable`);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT') {
      return fail(
        `${workspaceDir} cannot be read and written (${code})`,
        'Run as its owner, or give this user the right.',
      );
    }
    if (!isConfigured && environment['DUMONT_WORKSPACE_DIR'] === undefined) {
      return skip(`there is no ${workspaceDir}, and no agent is set up here`);
    }
    const above = await nearestExisting(workspaceDir);
    const isWritable = await access(above, constants.W_OK).then(
      () => true,
      () => false,
    );
    if (isWritable) return ok(`${workspaceDir} is made at the first start`);
    return fail(`${workspaceDir} is not there and cannot be made in ${above}`, 'Make it for the user of the agent.');
  }
}

async function checkContent({ tour }: Situation): Promise<Finding> {
  const { problem, isComplete, folderCount, fileCount, totalBytes, ...flaws } = await tour();
  if (problem !== null)
    return skip(problem === 'ENOENT' ? 'there is no workspace folder yet' : `it cannot be read (${problem})`);
  const least = isComplete ? '' : 'at least ';
  const detail = `${least}${fileCount} files, ${folderCount} folders, ${formatBytes(totalBytes)}`;
  const shown = flaws.examples.map((path) => JSON.stringify(path)).join(', ');
  if (flaws.unreadableCount > 0) {
    const fix = 'Run the agent as their owner, or leave them out by .dumontignore.';
    return warn(`${detail}; ${flaws.unreadableCount} folders cannot be read: ${shown}`, fix);
  }
  if (flaws.specialCount > 0) {
    return ok(`${detail}; ${flaws.specialCount} sockets, pipes or devices, which snapshots leave out: ${shown}`);
  }
  return ok(detail);
}

async function checkIgnoreFile({ workspaceDir }: Situation): Promise<Finding> {
  const path = join(workspaceDir, IGNORE_FILE);
  try {
    const rules = (await readRuleFile(path)).split('\n').filter((line) => /^\s*[^#\s]/.test(line));
    if (rules.length === 0) return ok('no rules: everything is kept');
    if ((await loadIgnoreRules(workspaceDir)).ignores('any-file', false)) {
      return warn(`${rules.length} rules, which leave out everything`, 'Look for a rule such as * that was not meant.');
    }
    return ok(`${rules.length} rules`);
  } catch (error) {
    return fail(toDumontError(error).message, `Mend or remove ${path}: without it no snapshot can be taken.`);
  }
}

/** Workloads and hooks are lines for it. */
async function checkShell(): Promise<Finding> {
  try {
    await access('/bin/sh', constants.X_OK);
    return ok('/bin/sh is there');
  } catch {
    return warn('there is no /bin/sh: workloads and hooks cannot be started', 'Use an image with a shell.');
  }
}
