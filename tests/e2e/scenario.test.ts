import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { DEMO_MAIN, runProgram } from '../world/run-program.ts';
import { machineProcesses } from '../world/site.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { makeTree, seeTree } from '../world/tree.ts';

const PHASES = ['detectMs', 'searchMs', 'provisionMs', 'restoreMs', 'commitMs', 'resumeMs', 'switchMs', 'releaseMs'];

interface Run {
  readonly exitCode: number | null;
  readonly report: Readonly<Record<string, unknown>> & {
    readonly broken: readonly string[];
    readonly phases: Readonly<Record<string, number | null>>;
    readonly detectMs: number;
    readonly filesVerified: number;
  };
}

/** Runs the scenario as a user would and looks for what it left behind. */
async function spotLoss(args: readonly string[]): Promise<Run> {
  await using folder = await makeTempFolder();
  const temporary = join(folder.path, 'tmp');
  await mkdir(temporary);
  const env = { HOME: folder.path, TMPDIR: temporary };
  const { exitCode, stdout, stderr } = await runProgram(DEMO_MAIN, ['--scenario', 'spot-loss', '--json', ...args], env);
  expect(stdout, stderr).toMatch(/^\{.*\}\n$/);
  // Other machines of this computer are nobody's business here.
  const mine = (await machineProcesses()).filter(({ commandLine, environment }) =>
    `${commandLine}${environment}`.includes(folder.path),
  );
  expect(mine).toEqual([]);
  expect(await readdir(temporary)).toEqual([]);
  expect(await readdir(folder.path)).toEqual(['tmp']);
  return { exitCode, report: JSON.parse(stdout) as Run['report'] };
}

function expectPromisesKept({ exitCode, report }: Run): void {
  expect(report.broken).toEqual([]);
  expect(exitCode).toBe(0);
  expect(report).toMatchObject({ ok: true, success: true, state: 'completed', filesWrong: 0, epoch: 2 });
  expect(report.detectMs).toBeLessThan(1_000);
  expect(report['resumedFromCheckpoint']).toMatch(/\.ckpt$/);
  expect(Date.parse(String(report['workloadResumedAt']))).toBeGreaterThan(Number(report['silenceBeganAtMs']));
  for (const phase of PHASES) expect(report.phases[phase], phase).toBeTypeOf('number');
}

test.each(['kill', 'freeze', 'partition'])(
  'the scenario keeps every promise and leaves nothing behind: %s',
  async (loss) => {
    const run = await spotLoss(['--loss', loss]);
    expectPromisesKept(run);
    expect(run.report['loss']).toBe(loss);
  },
);

test('the scenario protects a folder of the user, whose files stay as they are', async () => {
  await using folder = await makeTempFolder();
  const mine = join(folder.path, 'mine');
  await makeTree(mine, {
    'a file with spaces': { kind: 'file', content: Buffer.from('a') },
    'ünïcödé/№ 1/→.txt': { kind: 'file', content: Buffer.from('b'), mode: 0o600 },
    'new\nline': { kind: 'file', content: Buffer.from('c') },
    '-rf': { kind: 'file', content: Buffer.from('d') },
    '.hidden/deep/deeper/file': { kind: 'file', content: Buffer.alloc(2_000_000, 'deep ') },
    'link to file': { kind: 'symlink', target: 'a file with spaces' },
    'link to nowhere': { kind: 'symlink', target: '../gone' },
    'link to folder': { kind: 'symlink', target: '.hidden' },
    'same inode': { kind: 'hardlink', target: '-rf' },
    'empty folder': { kind: 'dir', mode: 0o700 },
    'run.sh': { kind: 'file', content: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
  });
  const before = await seeTree(mine);
  const run = await spotLoss(['--workspace', mine]);
  expectPromisesKept(run);
  // Every path above and the folders between them, two checkpoints or more, and the log.
  expect(run.report.filesVerified).toBeGreaterThanOrEqual(before.size + 3);
  expect(await seeTree(mine)).toEqual(before);
});
