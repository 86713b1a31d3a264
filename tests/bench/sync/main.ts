import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { newId } from '@dumont/shared/model/ids.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { DelayRelay } from '../../world/delay-relay-process.ts';
import { eventually } from '../../world/eventually.ts';
import { SyncReceiverProcess } from '../../world/sync-receiver-process.ts';
import { SyncSenderProcess } from '../../world/sync-sender-process.ts';
import { makeTempFolder } from '../../world/temp-folder.ts';
import { makeCheckpoint, makeTree, measureEdits, rewriteTenth } from './edits.ts';
import { installed, Lsyncd, RsyncServer, runRsync } from './peers.ts';

/**
 * Measures continuous sync over a wire of 10 ms each way, which a relay on loopback stands for: from write to visible in a
 * large tree, and what a checkpoint costs that was rewritten in a tenth of it. lsyncd and rsync beside it over the same
 * wire, where they are installed: `npm run bench:sync [files] [checkpoint MiB] [seconds of edits]`.
 */
const [fileCount = 100_000, checkpointMib = 2_048, editSeconds = 30] = process.argv.slice(2).map(Number);
const DELAY_MS = 10;
const BEAT_MS = 50;
const HOUR_MS = 3_600_000;
const MIB = 1024 * 1024;

interface Folders {
  readonly primary: string;
  readonly standby: string;
  /** Of rsync. */
  readonly copy: string;
  readonly state: string;
}

function line(what: string, value: string): void {
  process.stdout.write(`${what.padEnd(46)} ${value}\n`);
}

function lineOfLatencies(who: string, latencies: readonly number[]): number {
  const at = (share: number) => latencies[Math.floor((latencies.length - 1) * share)] ?? 0;
  const [p50, p99, most] = [at(0.5), at(0.99), at(1)].map(formatDuration);
  line(`${who}, write to visible of ${latencies.length} edits`, `p50 ${p50}, p99 ${p99}, max ${most}`);
  return at(0.5);
}

function lineOfBytes(who: string, bytes: number, tookMs: number): void {
  const share = ((100 * bytes) / (checkpointMib * MIB)).toFixed(1);
  line(`${who}, a tenth of it rewritten`, `${formatBytes(bytes)} sent, ${share} %, ${formatDuration(tookMs)}`);
}

/** @returns p50 of the edits, ms */
async function measureOurs(folders: Folders): Promise<number> {
  const { primary: root, standby, state: stateDir } = folders;
  const key = { workspaceId: newId('workspace'), epoch: 1, token: 'a token for the bench' };
  await using receiver = await SyncReceiverProcess.start({ root: standby, stateDir, key, host: '127.0.0.1', port: 0 });
  await using relay = await DelayRelay.start(receiver.port, DELAY_MS);
  await using sender = new SyncSenderProcess({ root, url: `wss://127.0.0.1:${relay.port}`, key, beatMs: BEAT_MS });
  const settled = async () => {
    const fromMs = systemClock.nowMs();
    const isSettled = () =>
      sender.beat !== null && sender.beat.asOfWallMs > fromMs && !sender.beat.isInitial && sender.beat.behindMs === 0;
    await eventually('the standby has all', isSettled, HOUR_MS);
    return systemClock.nowMs() - fromMs;
  };
  const memory = async (when: string) => {
    const primary = formatBytes(sender.beat?.rssBytes ?? 0);
    line(`memory at most ${when}`, `primary ${primary}, standby ${formatBytes(await receiver.peakRssBytes())}`);
  };
  line(`initial sync of ${fileCount} files`, formatDuration(await settled()));
  await memory('so far');
  const p50Ms = lineOfLatencies('ours', await measureEdits({ root, copy: standby, fileCount }, editSeconds, 'ours'));
  await memory('with edits');
  const checkpoint = join(root, 'checkpoint.bin');
  makeCheckpoint(checkpoint, checkpointMib);
  line(`a new checkpoint of ${checkpointMib} MiB`, formatDuration(await settled()));
  cpSync(checkpoint, join(folders.copy, 'checkpoint.bin'), { preserveTimestamps: true });
  const before = sender.beat?.sentBytes ?? 0;
  rewriteTenth(checkpoint, checkpointMib);
  const tookMs = await settled();
  lineOfBytes('ours', (sender.beat?.sentBytes ?? 0) - before, tookMs);
  await memory('with the checkpoint');
  return p50Ms;
}

async function measurePeers({ primary: root, copy, state }: Folders, oursMs: number): Promise<void> {
  if (!installed('rsync')) {
    line('rsync, lsyncd', 'not installed');
    return;
  }
  await using server = await RsyncServer.start(copy, state, DELAY_MS);
  const { tookMs, bytes } = runRsync(join(root, 'checkpoint.bin'), `${server.url}/`);
  lineOfBytes('rsync', bytes, tookMs);
  runRsync(`${root}/`, `${server.url}/`);
  line('rsync of two equal folders', formatDuration(runRsync(`${root}/`, `${server.url}/`).tookMs));
  if (!installed('lsyncd')) {
    line('lsyncd', 'not installed');
    return;
  }
  await using _lsyncd = await Lsyncd.start(root, `${server.url}/`, state);
  const p50Ms = lineOfLatencies('lsyncd', await measureEdits({ root, copy, fileCount }, editSeconds, 'lsyn'));
  line('lsyncd to ours, p50', `${(p50Ms / oursMs).toFixed(1)} times`);
}

await using temp = await makeTempFolder();
const [primary, standby, copy, state] = ['primary', 'standby', 'copy', 'state'].map((name) =>
  join(temp.path, name),
) as [string, string, string, string];
makeTree(primary, fileCount);
for (const folder of [standby, copy, state]) mkdirSync(folder);
const folders = { primary, standby, copy, state };
await measurePeers(folders, await measureOurs(folders));
