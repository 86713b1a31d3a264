import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, cpSync, mkdirSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SyncSender } from '@dumont/agent/sync/sync-sender.ts';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import { WorkspaceWatcher } from '@dumont/agent/workspace/watch.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom, systemRandom } from '@dumont/shared/util/random.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { eventually } from '../world/eventually.ts';
import { SyncReceiverProcess } from '../world/sync-receiver-process.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

/**
 * Measures continuous sync: `npm run bench:sync [files] [checkpoint MiB] [seconds of edits]`. As root it runs in a network
 * namespace whose loopback delays every packet by 10 ms. Prints latencies from write to visible, and what a checkpoint costs
 * that was rewritten in a tenth of it; rsync of the same two folders beside it where it is installed.
 */
const [fileCount = 100_000, checkpointMib = 2_048, editSeconds = 30] = process.argv.slice(2).map(Number);
const FILES_PER_FOLDER = 100;
const EDITS_PER_SECOND = 20;
const MAX_EDIT_BYTES = 1024 * 1024;
const TAG_BYTES = 16;
const HOUR_MS = 3_600_000;
const random = seededRandom(1);

function enterSlowNetwork(): boolean {
  if (process.env['DUMONT_BENCH_INSIDE'] !== undefined || process.getuid?.() !== 0) return false;
  const script =
    'ip link set lo up && (tc qdisc add dev lo root netem delay 10ms || echo "no netem here" >&2); exec "$@"';
  const run = spawnSync('unshare', ['-n', 'sh', '-c', script, 'sh', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, DUMONT_BENCH_INSIDE: '1' },
  });
  process.exitCode = run.status ?? 1;
  return run.error === undefined;
}

function line(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(46)} ${value}\n`);
}

function pathOf(index: number): string {
  return `d${Math.floor(index / FILES_PER_FOLDER)}/f${index}`;
}

function readTag(path: string): string {
  const bytes = Buffer.alloc(TAG_BYTES);
  try {
    const file = openSync(path, 'r');
    readSync(file, bytes, 0, TAG_BYTES, 0);
    closeSync(file);
  } catch {
    return '';
  }
  return bytes.toString('latin1');
}

/** @returns ms from the end of each write until the standby's file is the new one */
async function measureEdits(primary: string, standby: string): Promise<readonly number[]> {
  const latencies: number[] = [];
  const waiting = new Map<string, { readonly tag: string; readonly atMs: number }>();
  const body = randomFillSync(Buffer.alloc(MAX_EDIT_BYTES));
  const endMs = systemClock.monotonicMs() + editSeconds * 1_000;
  let nextMs = systemClock.monotonicMs();
  for (let count = 0; systemClock.monotonicMs() < endMs || waiting.size > 0;) {
    const nowMs = systemClock.monotonicMs();
    if (nowMs >= nextMs && nowMs < endMs) {
      nextMs += 1_000 / EDITS_PER_SECOND;
      const path = pathOf(Math.floor(random.next() * fileCount));
      const tag = String(count).padStart(TAG_BYTES, '0');
      const length = TAG_BYTES + Math.floor(random.next() * (MAX_EDIT_BYTES - TAG_BYTES));
      body.write(tag, 0, 'latin1');
      body.writeDoubleLE(random.next(), TAG_BYTES);
      writeFileSync(join(primary, path), body.subarray(0, length));
      waiting.set(path, { tag, atMs: systemClock.monotonicMs() });
      count += 1;
    }
    for (const [path, { tag, atMs }] of waiting) {
      if (readTag(join(standby, path)) !== tag) continue;
      latencies.push(systemClock.monotonicMs() - atMs);
      waiting.delete(path);
    }
    await sleep(2);
  }
  return latencies.toSorted((a, b) => a - b);
}

function makeCheckpoint(path: string): void {
  const file = openSync(path, 'w');
  const part = Buffer.alloc(1024 * 1024);
  for (let index = 0; index < checkpointMib; index += 1) writeSync(file, randomFillSync(part));
  closeSync(file);
}

/** Rewrites ten ranges of a hundredth each, as an optimizer rewrites some of the tensors. */
function rewriteTenth(path: string): void {
  const file = openSync(path, 'r+');
  const part = randomFillSync(Buffer.alloc(Math.floor((checkpointMib * 1024 * 1024) / 100)));
  for (let index = 0; index < 10; index += 1) {
    randomFillSync(part);
    writeSync(file, part, 0, part.length, index * 10 * part.length);
  }
  closeSync(file);
}

async function main(): Promise<void> {
  await using temp = await makeTempFolder();
  const [primary, standby, stateDir] = ['primary', 'standby', 'state'].map((name) => join(temp.path, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(primary);
  mkdirSync(standby);
  for (let index = 0; index < fileCount; index += 1) {
    if (index % FILES_PER_FOLDER === 0) mkdirSync(join(primary, `d${index / FILES_PER_FOLDER}`));
    writeFileSync(join(primary, pathOf(index)), `file ${index}\n`.repeat(20));
  }
  const key = { workspaceId: newId('workspace'), epoch: 1, token: 'a token for the bench' };
  await using receiver = await SyncReceiverProcess.start({ root: standby, stateDir, key, host: '127.0.0.1', port: 0 });
  const parts = { clock: systemClock, random: systemRandom, log: createLogger('bench', 'warn') };
  const ignore = await loadIgnoreRules(primary);
  await using watcher = new WorkspaceWatcher({ root: primary, ignore, onFirstDirty: () => {}, ...parts });
  const begunMs = systemClock.monotonicMs();
  await watcher.start();
  line(`watching ${fileCount} files`, formatDuration(systemClock.monotonicMs() - begunMs));
  const changes = watcher.follow(() => sender.nudge());
  await using sender = new SyncSender({
    root: primary,
    url: `wss://127.0.0.1:${receiver.port}`,
    key,
    changes,
    ...parts,
  });
  const settled = () =>
    eventually('the standby has all', () => sender.state.pendingMs === 0 && !sender.state.isInitial, HOUR_MS);
  const noticed = () => eventually('the change is noticed', () => sender.state.pendingMs > 0);
  const syncMs = systemClock.monotonicMs();
  sender.start();
  await settled();
  line('initial sync', formatDuration(systemClock.monotonicMs() - syncMs));
  const latencies = await measureEdits(primary, standby);
  const at = (share: number) => formatDuration(latencies[Math.floor((latencies.length - 1) * share)] ?? 0);
  line(`write to visible, ${latencies.length} edits of up to 1 MiB`, `p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}`);
  const checkpoint = join(primary, 'checkpoint.bin');
  makeCheckpoint(checkpoint);
  const firstMs = systemClock.monotonicMs();
  await noticed();
  await settled();
  line(`a new checkpoint of ${checkpointMib} MiB`, formatDuration(systemClock.monotonicMs() - firstMs));
  const before = sender.state.sentBytes;
  rewriteTenth(checkpoint);
  const againMs = systemClock.monotonicMs();
  await noticed();
  await settled();
  const sent = sender.state.sentBytes - before;
  const share = ((100 * sent) / (checkpointMib * 1024 * 1024)).toFixed(1);
  const tookMs = systemClock.monotonicMs() - againMs;
  line('a tenth of it rewritten', `${formatBytes(sent)} sent, ${share} %, ${formatDuration(tookMs)}`);
  line('memory of the standby at most', formatBytes(await receiver.peakRssBytes()));
  line('memory of the primary at most', formatBytes(process.resourceUsage().maxRSS * 1024));
  compareWithRsync(primary, standby, join(temp.path, 'rsync'));
}

function compareWithRsync(primary: string, standby: string, target: string): void {
  if (spawnSync('rsync', ['--version']).status !== 0) {
    line('rsync', 'not installed');
    return;
  }
  cpSync(standby, target, { recursive: true, preserveTimestamps: true });
  const begunMs = systemClock.monotonicMs();
  spawnSync('rsync', ['-a', '--delete', `${primary}/`, `${target}/`]);
  line('rsync of two equal folders', formatDuration(systemClock.monotonicMs() - begunMs));
}

if (!enterSlowNetwork()) await main();
