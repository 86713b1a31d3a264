import { spawnSync } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@dumont/shared/model/ids.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { created } from '../../world/engine.ts';
import { TextMaker } from './content.ts';
import { median } from './measure.ts';

const BLOCK_BYTES = 1024 * 1024;
const BLOCKS = 32;
const PASSES = 7;

export interface DecodeSpeed {
  readonly oursMbps: number;
  readonly commandMbps: number;
}

/**
 * Chunks of 1 MiB of source text, decoded by our decoder, less the time that checking their ids takes, and by `lz4 -b1`;
 * one thread, in memory, best passes.
 */
export async function measureDecode(work: string): Promise<DecodeSpeed> {
  const bytes = Buffer.from(new TextMaker(1).source(BLOCKS * BLOCK_BYTES), 'latin1');
  const coder = new ChunkCoder({ secrets: null, effort: 'fast' });
  const chunks = Array.from({ length: BLOCKS }, (_, index) => {
    const raw = bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    const { frame, codec } = coder.encode(raw);
    return { raw, frame: Buffer.from(frame), expected: { chunkId: hashHex(raw), codec, rawLength: raw.length } };
  });
  const decodeMs = bestPassMs(() => {
    for (const { frame, expected } of chunks) coder.decodeView(frame, expected);
  });
  const hashMs = bestPassMs(() => {
    for (const { raw } of chunks) hashHex(raw);
  });
  const path = join(work, 'decode');
  await mkdir(work, { recursive: true });
  await writeFile(path, bytes);
  const { stdout, stderr } = spawnSync('lz4', ['-b1', '-B6', '-i2', path], { encoding: 'utf8' });
  await rm(path);
  const line = `${stdout}${stderr}`.split(/[\r\n]+/).findLast((text) => text.includes('MB/s')) ?? '';
  const [, commandMbps = NaN] = [...line.matchAll(/([\d.]+) MB\/s/g)].map(([, number]) => Number(number));
  return { oursMbps: bytes.length / (decodeMs - hashMs) / 1_000, commandMbps };
}

function bestPassMs(pass: () => void): number {
  let bestMs = Infinity;
  for (let round = 0; round < PASSES; round += 1) {
    const begunMs = systemClock.monotonicMs();
    pass();
    bestMs = Math.min(bestMs, systemClock.monotonicMs() - begunMs);
  }
  return bestMs;
}

const TREE_FILES = 100_000;
const FILES_PER_FOLDER = 200;
const COMMITS = 5;

/**
 * How long the agent's snapshot takes after one file among 100,000 changed, as the agent takes it: in a process that
 * made the snapshot before. Median in ms.
 */
export async function measureIncremental(work: string): Promise<number> {
  const root = join(work, 'tree');
  for (let index = 0; index < TREE_FILES; index += 1) {
    const folder = join(root, `folder-${Math.floor(index / FILES_PER_FOLDER)}`);
    if (index % FILES_PER_FOLDER === 0) await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `file-${index}`), `content of file ${index}\n`);
  }
  const store = new FileStore(join(work, 'store'));
  const workspaceId = newId('workspace');
  const snapshotter = new Snapshotter({
    store,
    root,
    workspaceId,
    writerId: 'bench',
    clock: systemClock,
    toolVersion: '0',
  });
  let parent = created(await snapshotter.create({ epoch: 1, parent: null }));
  const times: number[] = [];
  for (let commit = 0; commit < COMMITS; commit += 1) {
    const path = `folder-7/file-${7 * FILES_PER_FOLDER}`;
    await writeFile(join(root, path), `changed ${commit}\n`);
    // What the watcher would say.
    const dirty = { changed: new Set([path]) };
    const begunMs = systemClock.monotonicMs();
    parent = created(await snapshotter.create({ epoch: 1, parent, ...dirty }));
    times.push(systemClock.monotonicMs() - begunMs);
  }
  await rm(work, { recursive: true });
  return median(times);
}
