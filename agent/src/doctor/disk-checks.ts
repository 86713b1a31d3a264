import { access, constants, statfs } from 'node:fs/promises';
import { formatBytes } from '@dumont/shared/util/units.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import { mountOf, nearestExisting, type Mount } from './mounts.ts';
import type { Situation } from './situation.ts';

const GIB = 2 ** 30;
/** Snapshots and restores stop at a full disk; the state needs little, but that little always. */
const LEAST_FREE_BYTES = 256 * 2 ** 20;
const LOW_FREE_BYTES = 5 * GIB;
const LOW_STATE_FREE_BYTES = GIB;
const LOW_INODE_SHARE = 0.02;

export interface DiskFacts {
  readonly path: string;
  readonly mount: Mount | null;
  readonly freeBytes: number;
  readonly totalBytes: number;
  readonly freeInodes: number;
  /** 0 where the file system has no fixed number of them. */
  readonly totalInodes: number;
}

export const DISK_CHECKS: readonly Check[] = [
  {
    id: 'workspace-disk',
    title: 'Disk of the workspace',
    run: async ({ workspaceDir }) => judgeDisk(await lookAt(workspaceDir), { lowBytes: LOW_FREE_BYTES, keeps: false }),
  },
  {
    id: 'state-disk',
    title: 'Disk of the state',
    run: async ({ stateDir }) => judgeDisk(await lookAt(stateDir), { lowBytes: LOW_STATE_FREE_BYTES, keeps: true }),
  },
  { id: 'program-disk', title: 'Disk of the program', run: checkProgramDisk },
  { id: 'state', title: 'State folder', run: checkState },
];

/** Pure. @param need what the path is for: `keeps` what must outlive a restart of the machine */
export function judgeDisk(disk: DiskFacts, need: { readonly lowBytes: number; readonly keeps: boolean }): Finding {
  const { path, mount, freeBytes, totalBytes, freeInodes, totalInodes } = disk;
  const type = mount?.type ?? 'unknown file system';
  const detail = `${path}: ${formatBytes(freeBytes)} free of ${formatBytes(totalBytes)}, ${type}`;
  if (mount?.options.has('ro') === true) {
    return fail(
      `${detail}, mounted read-only`,
      `Mount ${mount.point} for writing; the kernel's log says why it is not.`,
    );
  }
  if (freeBytes < LEAST_FREE_BYTES) return fail(detail, 'Free some space: nothing can be restored or saved here.');
  if (totalInodes > 0 && freeInodes / totalInodes < LOW_INODE_SHARE) {
    return warn(`${detail}; ${freeInodes} files can still be made`, 'Delete or pack folders of many small files.');
  }
  if (freeBytes < need.lowBytes) return warn(detail, 'Free some space, or rent a larger disk.');
  if (need.keeps && (type === 'tmpfs' || type === 'ramfs')) {
    const fix = 'Set DUMONT_STATE_DIR to a folder on a disk.';
    return warn(`${detail}: gone after a restart, and with it this machine's credential`, fix);
  }
  return ok(detail);
}

async function lookAt(path: string): Promise<DiskFacts> {
  const existing = await nearestExisting(path);
  const stats = await statfs(existing);
  return {
    path,
    mount: await mountOf(existing),
    freeBytes: stats.bavail * stats.bsize,
    totalBytes: stats.blocks * stats.bsize,
    freeInodes: stats.ffree,
    totalInodes: stats.files,
  };
}

async function checkProgramDisk({ layout }: Situation): Promise<Finding> {
  const mount = await mountOf(layout.prefix);
  if (mount === null) return skip('the system does not tell its mounts');
  if (mount.options.has('noexec')) {
    const fix = `Remount ${mount.point} with exec, or install elsewhere with DUMONT_INSTALL_DIR.`;
    return fail(`${layout.prefix}: ${mount.point} forbids programs (noexec)`, fix);
  }
  return ok(`${layout.prefix}: programs may run there`);
}

async function checkState({ stateDir, isConfigured }: Situation): Promise<Finding> {
  const existing = await nearestExisting(stateDir);
  const isWritable = await isAllowed(existing, constants.W_OK | constants.X_OK);
  const exists = await isAllowed(stateDir, constants.F_OK);
  if (isWritable) return ok(exists ? `${stateDir} is writable` : `${stateDir} is made at the first start`);
  if (!isConfigured) return skip(`${existing} is not writable for this user; no agent is set up here`);
  return fail(`${existing} is not writable for this user`, 'Run as the user of the agent, or set DUMONT_STATE_DIR.');
}

async function isAllowed(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
