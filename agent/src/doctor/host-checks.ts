import { access } from 'node:fs/promises';
import { arch, release } from 'node:os';
import { fail, ok, warn, type Check, type Finding } from './check.ts';
import type { Situation } from './situation.ts';

/** What Node 24 is built for. Source: BUILDING.md of Node.js 24, "Platform list". */
const LEAST_KERNEL = [4, 18] as const;
const LEAST_GLIBC = [2, 28] as const;

export const HOST_CHECKS: readonly Check[] = [
  { id: 'platform', title: 'System', run: async () => judgePlatform({ kernel: release(), glibc: glibcVersion() }) },
  {
    id: 'container',
    title: 'Container',
    run: async ({ container }) => ok(container === null ? 'none: a computer of its own' : container.name),
  },
  { id: 'init', title: 'Start with the machine', run: checkInit },
];

/** Pure. @param system `glibc` is undefined where the C library is another */
export function judgePlatform(system: { readonly kernel: string; readonly glibc: string | undefined }): Finding {
  const { kernel, glibc } = system;
  const detail = `Linux ${kernel}, ${glibc === undefined ? 'not glibc' : `glibc ${glibc}`}, ${arch()}`;
  if (glibc === undefined) return fail(detail, 'Use an image with glibc, such as Debian or Ubuntu, instead of Alpine.');
  if (isBelow(glibc, LEAST_GLIBC)) return warn(detail, 'Use a system with glibc 2.28 or newer, such as Debian 10.');
  if (isBelow(kernel, LEAST_KERNEL)) return warn(detail, 'Use a kernel of 4.18 or newer.');
  return ok(detail);
}

function isBelow(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ours = 0, oursMinor = 0] = version.split(/[.-]/).map(Number);
  return ours < major || (ours === major && oursMinor < minor);
}

function glibcVersion(): string | undefined {
  const report: typeof process.report & { excludeNetwork?: boolean } = process.report;
  // Names of all sockets' peers would be looked up otherwise.
  report.excludeNetwork = true;
  const { header } = report.getReport() as { readonly header: { readonly glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime;
}

async function checkInit({ container }: Situation): Promise<Finding> {
  const hasSystemd = await access('/run/systemd/system').then(
    () => true,
    () => false,
  );
  if (hasSystemd) return ok('systemd starts the agent');
  const how = container === null ? 'a line @reboot in the crontab' : container.onStart;
  return ok(`no systemd: the agent has its own supervisor; after a restart, ${how} must start it`);
}
