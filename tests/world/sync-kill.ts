import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mayChangeOwners } from '@dumont/agent/restore/metadata.ts';
import { ContentReader } from '@dumont/agent/sync/file-content.ts';
import { readFolder } from '@dumont/agent/sync/read-folder.ts';
import { SyncJournal } from '@dumont/agent/sync/sync-journal.ts';
import { SyncTree, type TreeNode } from '@dumont/agent/sync/sync-tree.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { SyncEntry } from '@dumont/shared/protocol/sync.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom, type Random } from '@dumont/shared/util/random.ts';
import { eventually } from './eventually.ts';
import { SyncReceiverProcess } from './sync-receiver-process.ts';
import { SyncSenderProcess } from './sync-sender-process.ts';
import { makeTempFolder } from './temp-folder.ts';
import { hashOf, type Version, WriteLoad } from './write-load.ts';

const BEAT_MS = 100;
const MAX_LOAD_MS = 1_500;
const READY_MS = 60_000;
const MAX_TIME_ERROR_NS = 2_000n;

/** What one kill cost, against what the last heartbeat had said of it. */
export interface KillOutcome {
  readonly trial: number;
  /** The standby's agent was killed too. */
  readonly bothKilled: boolean;
  readonly writes: number;
  /** Writes that are not on the standby. */
  readonly lostWrites: number;
  /** How old the oldest of them was at the last beat, ms; what came after the beat does not count. */
  readonly lostMs: number;
  readonly reportedMs: number;
  /** Size of what was lost of the writes before the last beat. */
  readonly lostBytes: number;
  readonly reportedBytes: number;
  /** What must not be; empty when all is well. */
  readonly violations: readonly string[];
}

/**
 * Kills a primary's end of sync, and in every third trial the standby's too, at random moments of a write load, and holds
 * what the standby then has against the log of the writes. The next trial goes on with the folders as they are.
 */
export async function* killTrials(trials: number, seed: number): AsyncGenerator<KillOutcome, void, void> {
  await using temp = await makeTempFolder();
  const [root, standby, stateDir] = [join(temp.path, 'p'), join(temp.path, 's'), join(temp.path, 'state')];
  mkdirSync(root);
  mkdirSync(standby);
  const random = seededRandom(seed);
  const load = new WriteLoad(root, random);
  for (let count = 0; count < 100; count += 1) load.writeOne();
  const key = { workspaceId: newId('workspace'), epoch: 1, token: 'a token for kill trials' };
  for (let trial = 1; trial <= trials; trial += 1) {
    const options = { root: standby, stateDir, key, host: '127.0.0.1', port: 0 };
    await using receiver = await SyncReceiverProcess.start(options);
    const url = `wss://127.0.0.1:${receiver.port}`;
    await using sender = new SyncSenderProcess({ root, url, key, beatMs: BEAT_MS });
    const isSettled = () => sender.beat?.isInitial === false && sender.beat.behindMs === 0;
    await eventually('the standby has all', isSettled, READY_MS);
    load.forget();
    const before = load.writes;
    await killDuring(load, random, sender);
    const { beat } = sender;
    const bothKilled = trial % 3 === 0;
    let watermark;
    if (bothKilled) {
      await receiver.kill();
      await using again = await SyncReceiverProcess.start(options);
      watermark = await again.promote();
    } else watermark = await receiver.promote();
    await receiver.kill();
    if (beat === null) throw new Error('no beat came');
    const violations: string[] = [];
    if (watermark.seq < (beat.watermark?.seq ?? 0)) violations.push('an acknowledged batch is gone');
    violations.push(...(await notAsWatermark(standby, journalOf(stateDir, key.workspaceId, standby), watermark.hash)));
    const loss = lossOf(load.history, standby, beat.asOfWallMs);
    violations.push(...loss.violations);
    if (loss.lostMs > beat.behindMs + 1) violations.push(`a write of ${loss.lostMs} ms before the beat is lost`);
    if (loss.lostBytes > beat.behindBytes) violations.push(`${loss.lostBytes} bytes of before the beat are lost`);
    yield {
      trial,
      bothKilled,
      writes: load.writes - before,
      lostWrites: loss.lostWrites,
      lostMs: loss.lostMs,
      reportedMs: beat.behindMs,
      lostBytes: loss.lostBytes,
      reportedBytes: beat.behindBytes,
      violations,
    };
  }
}

/** The moment of the kill has nothing to do with the state of anything. */
async function killDuring(load: WriteLoad, random: Random, sender: SyncSenderProcess): Promise<void> {
  const stopping = new AbortController();
  const writing = load.run(stopping.signal);
  await sleep(50 + random.next() * MAX_LOAD_MS);
  const killed = sender.kill();
  stopping.abort();
  await Promise.all([killed, writing]);
}

function journalOf(stateDir: string, workspaceId: string, root: string): ReadonlyMap<string, TreeNode> {
  return new SyncJournal(join(stateDir, `${workspaceId}.sync`), root).read().nodes;
}

/** The standby's list must be what the hash says, and the folder, read anew, what the list says. */
async function notAsWatermark(
  root: string,
  listed: ReadonlyMap<string, TreeNode>,
  hash: string,
): Promise<readonly string[]> {
  const list = new SyncTree();
  for (const [path, node] of listed) list.set(path, node);
  if (list.hash() !== hash) return ['the journal is not at the watermark'];
  const reader = new ContentReader(systemClock);
  const folder = { root, reader, owners: mayChangeOwners(), signal: AbortSignal.any([]) };
  const there = await readFolder(folder, new Map());
  return [...new Set([...list.paths(), ...there.paths()])]
    .filter((path) => !isSameEntry(list.get(path)?.entry, there.get(path)?.entry))
    .map((path) => `${path} is not as it is at the watermark`);
}

/** File times are set to the microsecond. */
function isSameEntry(a: SyncEntry | undefined, b: SyncEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  const apartNs = BigInt(a.meta.mtimeNs) - BigInt(b.meta.mtimeNs);
  if (apartNs > MAX_TIME_ERROR_NS || apartNs < -MAX_TIME_ERROR_NS) return false;
  const plain = (entry: SyncEntry) => JSON.stringify({ ...entry, meta: { ...entry.meta, mtimeNs: '' } });
  return plain(a) === plain(b);
}

function lossOf(history: ReadonlyMap<string, readonly Version[]>, standby: string, asOfWallMs: number) {
  const violations: string[] = [];
  let [lostWrites, lostMs, lostBytes] = [0, 0, 0];
  for (const [path, versions] of history) {
    const there = readMaybe(join(standby, path));
    const index = versionOf(versions, there);
    if (index === null) {
      violations.push(`${path} holds what nobody wrote`);
      continue;
    }
    const lost = versions.slice(index + 1);
    const reported = lost.filter(({ doneWallMs }) => doneWallMs < Math.floor(asOfWallMs));
    lostWrites += lost.length;
    for (const { doneWallMs } of reported) lostMs = Math.max(lostMs, asOfWallMs - doneWallMs);
    const last = reported.at(-1);
    // Of what was written over and over only the last counts.
    const newBytes = reported.reduce((sum, one) => sum + one.newBytes, 0);
    if (last !== undefined) lostBytes += Math.min(last.bytes, newBytes);
  }
  return { lostWrites, lostMs, lostBytes, violations };
}

/**
 * The last version that a path's content is, -1 for what was before a write that was seen halfway.
 * @returns null when it is none
 */
function versionOf(versions: readonly Version[], there: Buffer | null): number | null {
  const hash = there === null ? null : hashOf(there);
  const same = versions.findLastIndex((one) => one.hash === hash);
  if (same !== -1) return same;
  if (there === null) return -1;
  const partial = versions.findLastIndex((one) => one.content?.subarray(0, there.length).equals(there) === true);
  return partial === -1 ? null : partial - 1;
}

function readMaybe(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}
