import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { builtAgent, type BuiltAgent } from '../world/agent-build.ts';
import { makeHost, writeIdentity } from '../world/agent-process.ts';
import { AgentSocketServer, testAssignment } from '../world/agent-socket-server.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

/**
 * `npm run bench:agent`: what the executable costs the machine it runs on. Prints its size, the time from its start to
 * the first heartbeat, and memory and processor time while it idles over a tree of 100,000 files, watched and saved.
 */
const { values } = parseArgs({
  options: {
    files: { type: 'string', default: '100000' },
    starts: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '60' },
  },
});

const FILES_PER_FOLDER = 100;
const HEARTBEAT_MS = 200;
/** Bounds of the agent's requirements. */
const GOALS = { compressedMb: 45, firstBeatMs: 400, residentMb: 120, cpuPct: 1 };
/** Of /proc/<pid>/stat on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Snapshot, collection and the first host sample are over by then. */
const SETTLE_MS = 20_000;

const agent = await builtAgent({ suffix: 'bench' });
report('compressed size', (await stat(agent.gz)).size / 1e6, GOALS.compressedMb, 'MB');
await measureStarts(Number(values.starts));
await measureIdle({ files: 0, name: 'an empty workspace' });
await measureIdle({ files: Number(values.files), name: `${values.files} files` });

async function measureStarts(count: number): Promise<void> {
  const times: number[] = [];
  for (let index = 0; index < count; index += 1) {
    await using run = await startAgent(agent, 0);
    times.push(await run.firstBeatMs());
  }
  times.sort((a, b) => a - b);
  report(`first heartbeat, median of ${count}`, times[Math.floor(count / 2)] ?? 0, GOALS.firstBeatMs, 'ms');
  report('first heartbeat, best', times[0] ?? 0, GOALS.firstBeatMs, 'ms');
}

async function measureIdle({ files, name }: { readonly files: number; readonly name: string }): Promise<void> {
  await using run = await startAgent(agent, files);
  await run.server.waitFor('snapshot-commit', 1, 120_000);
  await sleep(SETTLE_MS);
  const seconds = Number(values.seconds);
  const before = await cpuSeconds(run.pid);
  await sleep(seconds * 1_000);
  const cpuPct = (100 * ((await cpuSeconds(run.pid)) - before)) / seconds;
  const status = await readFile(`/proc/${run.pid}/status`, 'utf8');
  const kib = (field: string) => Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
  report(`resident, idle over ${name}`, (kib('VmRSS') * 1024) / 1e6, GOALS.residentMb, 'MB');
  report(`  of it anonymous`, (kib('RssAnon') * 1024) / 1e6, null, 'MB');
  report(`  most so far`, (kib('VmHWM') * 1024) / 1e6, null, 'MB');
  report(`processor, idle over ${name}`, cpuPct, GOALS.cpuPct, '% of a core');
}

interface RunningAgent extends AsyncDisposable {
  readonly pid: number;
  readonly server: AgentSocketServer;
  firstBeatMs(): Promise<number>;
}

/** The executable on a tree of so many small files, connected to a control plane on loopback. */
async function startAgent({ path }: BuiltAgent, files: number): Promise<RunningAgent> {
  const folder = await makeTempFolder();
  const policy = { heartbeatIntervalMs: HEARTBEAT_MS, snapshotIntervalMs: 10_000 };
  const assignment = testAssignment(join(folder.path, 'store'), { standing: 'primary', policy });
  const server = await AgentSocketServer.start(assignment);
  const host = await makeHost(folder.path);
  const { workspaceDir, stateDir } = host;
  writeIdentity(server.controlUrl, host);
  await writeTree(workspaceDir, files);
  const startedAtMs = performance.now();
  const child: ChildProcess = spawn(path, ['run'], {
    stdio: 'ignore',
    env: {
      DUMONT_CONTROL_URL: server.controlUrl,
      DUMONT_WORKSPACE_DIR: workspaceDir,
      DUMONT_STATE_DIR: stateDir,
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
