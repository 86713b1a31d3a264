import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';

const SEALED_VARIABLE = 'DUMONT_CHAOS_SEALED';
/** Networks, mounts and processes of its own; all its processes end with it. */
const NAMESPACES = ['--net', '--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];

/** True in the process that {@link runSealed} started. */
export function isSealed(): boolean {
  return process.env[SEALED_VARIABLE] !== undefined;
}

/** Why faults of networks and disks cannot be made here; null when they can. */
export async function whyNotSealed(): Promise<string | null> {
  if (process.platform !== 'linux') return 'it takes Linux';
  if (process.getuid?.() !== 0) return 'it takes root';
  for (const tool of ['ip', 'unshare', 'mount']) {
    if (!(await isInstalled(tool))) return `"${tool}" is not installed (Debian: iproute2, util-linux, mount)`;
  }
  const child = spawn('unshare', [...NAMESPACES, 'true'], { stdio: 'ignore' });
  const [code] = (await once(child, 'close')) as [number | null];
  return code === 0 ? null : 'namespaces cannot be made';
}

/** Runs a program of ours again, where its faults reach nobody else. @returns its exit code */
export async function runSealed(program: string, args: readonly string[]): Promise<number> {
  const child = spawn('unshare', [...NAMESPACES, process.execPath, program, ...args], {
    stdio: 'inherit',
    env: { ...process.env, [SEALED_VARIABLE]: '1' },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill(signal));
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? 1;
}

async function isInstalled(tool: string): Promise<boolean> {
  const folders = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  const found = folders.map((folder) =>
    access(`${folder}/${tool}`).then(
      () => true,
      () => false,
    ),
  );
  return (await Promise.all(found)).includes(true);
}
