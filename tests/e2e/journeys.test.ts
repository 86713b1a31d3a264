import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { dumont } from '../unit/control-plane/cli/dumont-process.ts';
import { ControlPlaneProcess } from '../world/control-plane-process.ts';
import { eventually } from '../world/eventually.ts';
import { ProtectedWorkspace } from '../world/protected-workspace.ts';
import { Site } from '../world/site.ts';
import { onMachines, VastSite } from '../world/vast-site.ts';

test(
  'a failover is tried out on a machine of its own: every byte is there, the primary notices nothing, nothing is left',
  { timeout: 120_000 },
  async () => {
    await using site = await Site.make();
    await using _controlPlane = await ControlPlaneProcess.start(site);
    const workspace = await ProtectedWorkspace.provision(site, 'lab');
    const before = await workspace.primary();
    const workers = await workspace.workers(before);
    const connection = connectionOf(site);

    const simulated = await dumont(['failover', 'simulate', 'lab', '--json'], connection);
    const simulation: unknown = JSON.parse(simulated.stdout);
    expect(simulation).toMatchObject({ possible: true, blockers: [], loss: { from: 'snapshot' } });

    const page = join(site.folder, 'report.html');
    const tried = await dumont(['failover', 'test-real', 'lab', '--out', page], connection);
    expect(tried, tried.stdout + tried.stderr).toMatchObject({ exitCode: 0 });
    const { items } = await site.client.call('listTests', { query: { workspace: 'lab' } });
    const report = must(items[0], 'it was written down');
    expect(report).toMatchObject({ success: true, error: null, folder: { ok: true, differenceCount: 0 } });
    expect(report.folder?.actualTree).toBe(report.folder?.expectedTree);
    expect(report.folder?.bytes).toBeGreaterThan(300_000);
    expect(report.evidence.map(({ ok }) => ok)).not.toContain(false);
    expect(report.machines.every(({ goneAtMs }) => goneAtMs !== null)).toBe(true);

    const after = await workspace.primary();
    expect(after.instanceId).toBe(before.instanceId);
    expect(await workspace.workers(after)).toEqual(workers);
    await workspace.worksOn(after);
    expect((await workspace.view()).epoch).toBe(1);
    // No workload was ever started on the test's machine: the log knows one process.
    expect(await workspace.starts(after)).toHaveLength(1);
    expect((await workspace.machines()).map(({ instanceId }) => instanceId)).toEqual([before.instanceId]);

    const html = await readFile(page, 'utf8');
    expect(html).toContain('Every byte, size, type and mode is that of the snapshot');
    expect(html).not.toMatch(/src=|href=|@import|url\(/);
    const pdf = join(site.folder, 'report.pdf');
    expect((await dumont(['failover', 'test-real-report', 'lab', '--out', pdf], connection)).exitCode).toBe(0);
    expect((await readFile(pdf)).subarray(0, 5).toString()).toBe('%PDF-');
    const shown = await dumont(['failover', 'test-real-report', 'lab'], connection);
    expect(shown.stdout).toMatch(/✓ The primary is the one it was/);
    const listed = await dumont(['failover', 'test-real-history'], connection);
    expect(listed.stdout).toContain(report.testId);
  },
);

/** What the command line needs to know of an installation. */
function connectionOf(site: Site): Record<string, string> {
  const { DUMONT_API_TOKEN: token = '' } = site.environment();
  return { DUMONT_URL: `http://127.0.0.1:${site.port}`, DUMONT_TOKEN: token };
}

const NVIDIA_SMI = `#!/bin/sh
echo '570.86.15, 0, NVIDIA GeForce RTX 4090, 0, 1, 24564, 31, 22.50'
`;

onMachines(
  'a provider is tried out in seven steps on one machine of Vast.ai, which is destroyed, and the report says how long each took',
  { timeout: 240_000 },
  async () => {
    await using world = await VastSite.make();
    const { site, vast } = world;
    await using controlPlane = await world.startControlPlane();
    const connection = connectionOf(site);
    const page = join(site.folder, 'provider.html');
    const args = ['test', 'failover', '--real', '--provider', 'vast', '--max-cost', '1', '--out', page];
    const running = dumont(args, connection);
    const contract = await eventually('a machine is rented', () => [...vast.account.contracts.values()][0], 60_000);
    // What drivers put on a real machine.
    const bin = join(contract.machine.root, 'local/bin');
    await mkdir(bin, { recursive: true });
    await writeFile(join(bin, 'nvidia-smi'), NVIDIA_SMI, { mode: 0o755 });
    const { exitCode, stdout, stderr } = await running;
    expect(exitCode, stdout + stderr).toBe(0);
    const { items } = await site.client.call('listTests');
    const report = must(items[0], 'it was written down');
    const steps = ['searching', 'creating', 'booting', 'reaching', 'writing', 'verifying', 'sampling', 'destroying'];
    expect(report.steps.map(({ step }) => step)).toEqual(steps);
    expect(report.evidence.map(({ ok }) => ok)).not.toContain(false);
    expect(report.steps.find(({ step }) => step === 'reaching')?.detail['banner']).toMatch(/^SSH-2\.0-OpenSSH/);
    expect(report.statuses.length).toBeGreaterThan(1);
    expect(report.costMicroUsd).toBeGreaterThan(0);
    expect(vast.account.contracts.size).toBe(0);
    expect(vast.account.history).toHaveLength(1);
    expect(await readFile(page, 'utf8')).toContain('nvidia-smi sees the GPUs');
    expect(controlPlane.log).not.toContain(vast.apiKey);
  },
);
