import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { z } from 'zod';
import { findPostgresBinaries } from './world/postgres-server.ts';

/**
 * `npm test`: installs the system packages the real parts need, runs the tests, and ends with one plain line that counts
 * them. Arguments go to Vitest, for example `npm test -- unit/shared -t "a name"`.
 */
async function main(): Promise<void> {
  await provideSystemPackages();
  const folder = await mkdtemp(join(tmpdir(), 'dumont-test-'));
  try {
    const reportPath = join(folder, 'report.json');
    const exitCode = await runVitest(reportPath, process.argv.slice(2));
    const count = await readCount(reportPath);
    // A run may also fail outside every test: an unhandled error, a file that does not load, nothing found.
    if (exitCode !== 0 && count.failed === 0) process.stdout.write('the run failed outside any test, see above\n');
    const skipped = count.skipped === 0 ? '' : `, ${count.skipped} skipped`;
    process.stdout.write(`${count.passed} passed, ${count.failed} failed${skipped}\n`);
    process.exitCode = exitCode === 0 && count.failed > 0 ? 1 : exitCode;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface SystemPackage {
  readonly name: string;
  readonly isPresent: () => Promise<boolean>;
  readonly leftOut: string;
}

const SYSTEM_PACKAGES: readonly SystemPackage[] = [
  {
    name: 'postgresql',
    isPresent: async () => (process.env['DATABASE_URL'] ?? '') !== '' || (await findPostgresBinaries()) !== undefined,
    leftOut: 'the database tests on PostgreSQL (those on PGlite run)',
  },
  {
    name: 'lz4',
    isPresent: () => isOnPath('lz4'),
    leftOut: 'the tests that unpack snapshots with the lz4 command',
  },
  ...['busybox', 'curl', 'wget', 'iproute2'].map((name) => ({
    name,
    isPresent: () => isOnPath(name === 'iproute2' ? 'ip' : name),
    leftOut: 'the tests of the installer in namespaces of their own',
  })),
  {
    name: 'shellcheck',
    isPresent: () => isOnPath('shellcheck'),
    leftOut: 'the check of the shell scripts',
  },
  {
    name: 'openssh-server',
    isPresent: () => isOnPath('sshd'),
    leftOut: 'the tests of Vast.ai, whose simulated machines have an SSH server each',
  },
  {
    name: 'binutils',
    isPresent: () => isOnPath('strip'),
    leftOut: 'nothing, but the executable of the agent is larger',
  },
  {
    name: 'bubblewrap',
    isPresent: () => isOnPath('bwrap'),
    leftOut: 'the tests that run the executable in a root without Node',
  },
];

/** Slow mirrors exist; one that takes longer than this does not answer. */
const INSTALL_TIMEOUT_MS = 300_000;

/** Installs what is missing where it can, and says what its absence leaves out where it cannot. Never fails. */
async function provideSystemPackages(): Promise<void> {
  const missing = await absent(SYSTEM_PACKAGES);
  if (missing.length === 0) return;
  const canInstall = process.getuid?.() === 0 && (await isOnPath('apt-get'));
  if (canInstall) {
    const names = missing.map((each) => each.name);
    process.stdout.write(`installing by apt-get: ${names.join(', ')}\n`);
    await runAptGet(['update', '-qq']);
    // One by one, so that one that cannot be had does not keep out the others.
    for (const name of names) await runAptGet(['install', '-y', '-qq', '--no-install-recommends', name]);
  }
  const reason = canInstall ? 'could not be installed' : 'is not installed, and this user cannot install it';
  for (const { name, leftOut } of await absent(missing)) {
    process.stdout.write(`package ${name} ${reason}; left out: ${leftOut}\n`);
  }
}

async function absent(packages: readonly SystemPackage[]): Promise<readonly SystemPackage[]> {
  const present = await Promise.all(packages.map((each) => each.isPresent()));
  return packages.filter((_, index) => present[index] !== true);
}

/** What apt-get says is shown only on stderr's behalf; its failure shows in what is still absent. */
async function runAptGet(args: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const child = spawn('apt-get', args, { env, stdio: ['ignore', 'ignore', 'inherit'], timeout: INSTALL_TIMEOUT_MS });
  await once(child, 'close').catch(() => undefined);
}

async function isOnPath(command: string): Promise<boolean> {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const found = await Promise.all(
    folders.map((folder) =>
      access(join(folder, command)).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** Progress goes straight to the terminal. @returns the exit code, 1 when a signal ended it */
async function runVitest(reportPath: string, args: readonly string[]): Promise<number> {
  const vitest = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
  const config = join(import.meta.dirname, 'vitest.config.ts');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`];
  const child = spawn(process.execPath, [vitest, 'run', '--config', config, ...reporters, ...args], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  // A signal to us is for the tests: they stop their servers and end, then so do we.
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  process.on('SIGINT', forward);
  process.on('SIGTERM', forward);
  const [code] = (await once(child, 'close')) as [number | null];
  process.removeListener('SIGINT', forward);
  process.removeListener('SIGTERM', forward);
  return code ?? 1;
}

const reportSchema = z.object({
  numPassedTests: z.int(),
  numFailedTests: z.int(),
  numPendingTests: z.int(),
  numTodoTests: z.int(),
  testResults: z.array(z.object({ status: z.string(), assertionResults: z.array(z.unknown()) })),
});

/** The counts of Vitest's JSON report; a test file that did not load counts as one failure. */
async function readCount(path: string): Promise<{ passed: number; failed: number; skipped: number }> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return { passed: 0, failed: 0, skipped: 0 };
  const report = reportSchema.parse(JSON.parse(text));
  const unloaded = report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0);
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + unloaded.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

await main();
