import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { randomBytes } from 'node:crypto';
import { getAttributeSync, setAttributeSync } from '@napi-rs/xattr';
import { beforeAll, expect, test } from 'vitest';
import { buildAgent } from '../../install/build/build-agent.ts';
import { type BuiltAgent, builtAgent } from '../world/agent-build.ts';
import { makeHost, writeIdentity } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

const run = promisify(execFile);
const MAX_COMPRESSED_BYTES = 45_000_000;
const BUILD_TIMEOUT_MS = 240_000;

/** The loader and the C library's own parts, the C++ library that Node needs, and nothing else. */
const LIBRARIES = ['libc', 'libm', 'libdl', 'libpthread', 'librt', 'libgcc_s', 'libstdc++', 'libatomic'];

let agent: BuiltAgent;
beforeAll(async () => {
  agent = await builtAgent({ suffix: 'test.1' });
}, BUILD_TIMEOUT_MS);

const hasBubblewrap = await run('bwrap', ['--ro-bind', '/', '/', 'true']).then(
  () => true,
  () => false,
);

/** Arguments of bubblewrap for a root that holds the executable, libc and one writable folder, and an empty environment. */
async function emptyRoot(folder: string): Promise<string[]> {
  const { stdout } = await run('ldconfig', ['-p']);
  const paths = LIBRARIES.flatMap((name) => {
    const line = stdout.split('\n').find((one) => one.trim().startsWith(`${name}.so.`) && one.includes('64'));
    return line?.split(' => ')[1] ?? [];
  });
  const loader = process.arch === 'arm64' ? '/lib/ld-linux-aarch64.so.1' : '/lib64/ld-linux-x86-64.so.2';
  const binds = [...paths, loader].flatMap((path) => ['--ro-bind', path, path]);
  const own = ['--ro-bind', agent.path, '/dumont-agent', '--bind', folder, '/data'];
  return [...binds, '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp', ...own, '--clearenv', '--die-with-parent'];
}

test('the release names what was built, and its checksums are those that sha256sum computes', async () => {
  const release = await stat(agent.gz);
  expect(release.size).toBeLessThanOrEqual(MAX_COMPRESSED_BYTES);
  const { stdout } = await run('sha256sum', ['--check', 'SHA256SUMS'], { cwd: agent.directory });
  expect(stdout.match(/: OK$/gm)).toHaveLength(2);
  expect(agent.version).toMatch(/-test\.1$/);
});

test('the executable tells the version it was stamped with', async () => {
  const { stdout } = await run(agent.path, ['--version'], { env: {} });
  expect(stdout).toBe(`dumont-agent ${agent.version}\n`);
});

test('host-files writes the scripts that the sources hold, executable whatever the umask', async () => {
  await using folder = await makeTempFolder();
  await run('sh', ['-c', 'umask 077; exec "$0" host-files "$1"', agent.path, folder.path]);
  for (const [name, source] of [
    ['dumont-supervisor', 'supervisor.sh'],
    ['install.sh', 'install.sh'],
  ] as const) {
    const path = join(folder.path, name);
    expect(await readFile(path, 'utf8')).toBe(
      await readFile(join(import.meta.dirname, '../../install', source), 'utf8'),
    );
    expect((await stat(path)).mode & 0o777).toBe(0o755);
  }
});

test.runIf(hasBubblewrap)(
  'in a root without Node it snapshots, verifies and restores, attributes included, and the doctor finds nothing amiss',
  async () => {
    await using folder = await makeTempFolder();
    const tree = join(folder.path, 'tree');
    await mkdir(join(tree, 'deep'), { recursive: true });
    // Enough for threads on both ways.
    const content = randomBytes(20 * 1024 * 1024);
    await writeFile(join(tree, 'large'), content);
    await writeFile(join(tree, 'deep/small'), 'small');
    setAttributeSync(join(tree, 'deep/small'), 'user.kind', 'test');
    const root = await emptyRoot(folder.path);
    const inside = (...args: string[]) => run('bwrap', [...root, '/dumont-agent', ...args]);
    const { stdout } = await inside('snapshot', '/data/tree', '--to', 'file:///data/store', '--json');
    const { snapshotId } = JSON.parse(stdout) as { readonly snapshotId: string };
    await inside('verify', '--snapshot', snapshotId, '--read-data', '--from', 'file:///data/store');
    await inside('restore', '--snapshot', snapshotId, '--from', 'file:///data/store', '--to', '/data/back');
    const doctor = await inside('doctor', '--json');
    expect(JSON.parse(doctor.stdout)).toMatchObject({ healthy: true, version: agent.version });
    expect((await readFile(join(folder.path, 'back/large'))).equals(content)).toBe(true);
    const attribute = getAttributeSync(join(folder.path, 'back/deep/small'), 'user.kind');
    expect(attribute?.toString()).toBe('test');
  },
);

test.runIf(hasBubblewrap)('in a root without Node it serves a control plane, and saves what changes', async () => {
  await using folder = await makeTempFolder();
  const policy = { heartbeatIntervalMs: 200, snapshotIntervalMs: 300 };
  await using server = await AgentSocketServer.start(testAssignment('/data/store', { standing: 'primary', policy }));
  const host = await makeHost(folder.path);
  const { workspaceDir } = host;
  writeIdentity(server.controlUrl, host);
  await writeFile(join(workspaceDir, 'first'), 'first');
  const environment = {
    DUMONT_CONTROL_URL: server.controlUrl,
    DUMONT_WORKSPACE_DIR: '/data/machine/workspace',
    DUMONT_STATE_DIR: '/data/machine/state',
  };
  const sets = Object.entries(environment).flatMap(([name, value]) => ['--setenv', name, value]);
  const child = spawn('bwrap', [...(await emptyRoot(folder.path)), ...sets, '/dumont-agent', 'run'], {
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  const exit = once(child, 'exit');
  try {
    await server.waitFor('snapshot-commit');
    await writeFile(join(workspaceDir, 'second'), 'second');
    await server.waitFor('snapshot-commit', 2);
    await server.waitFor('heartbeat', 5);
    expect(server.hellos()[0]?.agentVersion).toBe(agent.version);
    await server.waitFor('sample');
  } finally {
    child.kill('SIGKILL');
    await exit;
  }
});

test('the same sources give the same bytes', { timeout: BUILD_TIMEOUT_MS }, async () => {
  await using folder = await makeTempFolder();
  const architecture = process.arch === 'arm64' ? 'arm64' : 'x64';
  const options = { architectures: [architecture], versionSuffix: 'test.1', say: () => {} } as const;
  const { folder: again } = await buildAgent({ ...options, out: join(folder.path, 'elsewhere') });
  for (const name of ['SHA256SUMS', 'release.json']) {
    expect(await readFile(join(again, name), 'utf8')).toBe(await readFile(join(agent.directory, name), 'utf8'));
  }
});
