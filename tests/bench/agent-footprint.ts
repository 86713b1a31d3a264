import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { builtAgent } from '../world/agent-build.ts';
import { makeHost, writeIdentity } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { median } from './engine/measure.ts';

/**
 * `npm run bench:agent`: what the executable costs the machine it runs on. Prints its size, the time from its start to
 * the first heartbeat, how long a restart is away, and memory and processor time while it idles over a tree of 100,000
 * files, watched and saved. Figures are medians. Processor times hold on a busy machine, wall times do not.
 */
const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '100000' },
    starts: { type: 'string', default: '7' },
    runs: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '60' },
  },
});

const FILES_PER_FOLDER = 100;
const HEARTBEAT_MS = 200;
/** Bounds of the agent's requirements. */
const GOALS = { compressedMb: 45, firstBeatMs: 400, residentMb: 120, cpuPct: 1, awayMs: 2_000 };
/** Of /proc/<pid>/stat on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Snapshot, collection and the first host sample are over by then. */
const SETTLE_MS = 20_000;
/** What install/supervisor.sh sets. */
const TUNABLES = [
  'glibc.malloc.arena_max=1',
  'glibc.malloc.trim_threshold=131072',
  'glibc.malloc.mmap_threshold=8192',
  'glibc.malloc.mmap_max=16384',
].join(':');

const agent = await builtAgent({ suffix: 'bench' });
await using installed = await makeTempFolder();
const executable = join(installed.path, 'dumont-agent');
await unpackAsInstalled(agent.gz, executable);
report('compressed size', (await stat(agent.gz)).size / 1e6, GOALS.compressedMb, 'MB');
await measureStarts(Number(values.starts));
await measureRestart(Number(values.starts));
for (const files of [0, Number(values.files)]) await measureIdle(files, Number(values.runs));

/**
 * A piece at a time, as install.sh does it. The kernel maps a file in the pieces it was cached in: what was written as a
 * whole shows 14 MB more of its pages as resident.
 */
async function unpackAsInstalled(gz: string, path: string): Promise<void> {
  await promisify(execFile)('sh', ['-c', 'gunzip -c "$0" >"$1" && chmod 755 "$1"', gz, path]);
}

async function measureStarts(count: number): Promise<void> {
  const wallMs: number[] = [];
  const cpuMs: number[] = [];
  for (let index = 0; index < count; index += 1) {
    await using run = await startAgent(0);
    wallMs.push(await run.firstBeatMs());
    cpuMs.push((await cpuSeconds(run.pid)) * 1_000);
  }
  report(`first heartbeat, median of ${count}`, median(wallMs), GOALS.firstBeatMs, 'ms');
  report('  best', Math.min(...wallMs), GOALS.firstBeatMs, 'ms');
  report('  processor time until then', median(cpuMs), null, 'ms');
}

/** From SIGHUP to the next process's first heartbeat, without the supervisor's part, which is a fork. */
async function measureRestart(count: number): Promise<void> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    await using run = await startAgent(0);
    await run.firstBeatMs();
    const endMs = await run.hangUp();
    await using next = await startAgent(0);
    times.push(endMs + (await next.firstBeatMs()));
  }
  report(`away for a restart, median of ${count}`, median(times), GOALS.awayMs, 'ms');
}

async function measureIdle(files: number, runs: number): Promise<void> {
  const all: Footprint[] = [];
  for (let index = 0; index < runs; index += 1) all.push(await footprint(files));
  const of = (field: keyof Footprint) => median(all.map((one) => one[field]));
  report(`resident, idle over ${files} files`, of('residentMb'), GOALS.residentMb, 'MB');
  report('  of it anonymous', of('anonymousMb'), null, 'MB');
  report('  of it pages of files', of('residentMb') - of('anonymousMb'), null, 'MB');
  report('  its share, where pages are shared', of('shareMb'), null, 'MB');
  report('  most so far', of('peakMb'), null, 'MB');
  report(`processor, idle over ${files} files`, of('cpuPct'), GOALS.cpuPct, '% of a core');
}

interface Footprint {
  readonly residentMb: number;
  readonly anonymousMb: number;
  readonly shareMb: number;
  readonly peakMb: number;
  readonly cpuPct: number;
}

async function footprint(files: number): Promise<Footprint> {
  await using run = await startAgent(files);
  await run.server.waitFor('snapshot-commit', 1, 120_000);
  await sleep(SETTLE_MS);
  const seconds = Number(values.seconds);
  const before = await cpuSeconds(run.pid);
  await sleep(seconds * 1_000);
  const cpuPct = (100 * ((await cpuSeconds(run.pid)) - before)) / seconds;
  const rollup = await readFile(`/proc/${run.pid}/smaps_rollup`, 'utf8');
  const status = await readFile(`/proc/${run.pid}/status`, 'utf8');
  return {
    residentMb: megabytes(rollup, 'Rss'),
    anonymousMb: megabytes(rollup, 'Anonymous'),
    shareMb: megabytes(rollup, 'Pss'),
    peakMb: megabytes(status, 'VmHWM'),
    cpuPct,
  };
}

function megabytes(text: string, field: string): number {
  return (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1_024) / 1e6;
}

interface RunningAgent extends AsyncDisposable {
  readonly pid: number;
  readonly server: AgentSocketServer;
  firstBeatMs(): Promise<number>;
  /** Asks it to make way. @returns after how many ms it was gone */
  hangUp(): Promise<number>;
}

/** The executable on a tree of so many small files, connected to a control plane on loopback. */
async function startAgent(files: number): Promise<RunningAgent> {
  const folder = await makeTempFolder();
  const policy = { heartbeatIntervalMs: HEARTBEAT_MS, snapshotIntervalMs: 10_000 };
  const assignment = testAssignment(join(folder.path, 'store'), { standing: 'primary', policy });
  const server = await AgentSocketServer.start(assignment);
  const host = await makeHost(folder.path);
  const { workspaceDir, stateDir } = host;
  writeIdentity(server.controlUrl, host);
  await writeTree(workspaceDir, files);
  const startedAtMs = performance.now();
  const child: ChildProcess = spawn(executable, ['run'], {
    stdio: 'ignore',
    env: {
      DUMONT_CONTROL_URL: server.controlUrl,
      DUMONT_WORKSPACE_DIR: workspaceDir,
      DUMONT_STATE_DIR: stateDir,
      GLIBC_TUNABLES: TUNABLES,
    },
  });
  const exit = once(child, 'exit');
  return {
    pid: child.pid ?? 0,
    server,
    firstBeatMs: async () => {
      await server.waitFor('heartbeat');
      const beat = server.arrivals.find(({ message }) => message.kind === 'heartbeat');
      return (beat?.atMs ?? Infinity) - startedAtMs;
    },
    hangUp: async () => {
      const begunMs = performance.now();
      child.kill('SIGHUP');
      await exit;
      return performance.now() - begunMs;
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exit;
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function writeTree(root: string, files: number): Promise<void> {
  for (let first = 0; first < files; first += FILES_PER_FOLDER) {
    const folder = join(root, `folder-${first / FILES_PER_FOLDER}`);
    await mkdir(folder);
    const count = Math.min(FILES_PER_FOLDER, files - first);
    await Promise.all(
      Array.from({ length: count }, (_, index) => writeFile(join(folder, `file-${index}`), `${first} ${index}`)),
    );
  }
}

async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function report(name: string, value: number, goal: number | null, unit: string): void {
  const verdict = goal === null ? '' : `  (goal: at most ${goal})${value <= goal ? '' : '  MISSED'}`;
  process.stdout.write(`${name.padEnd(42)} ${value.toFixed(1).padStart(8)} ${unit}${verdict}\n`);
}
