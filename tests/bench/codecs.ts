import { execFileSync, spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import {
  compressBlock,
  compressBlockAsync,
  uncompressBlock,
  uncompressBlockAsync,
} from '@dumont/agent/snapshot/lz4-block.ts';
import { ChunkCoder, type EncodedChunk } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { CodecPool } from '@dumont/agent/workers/codec-pool.ts';
import { makeCorpora } from '../world/corpora.ts';

/**
 * Measures the codecs: `node tests/bench/codecs.ts [MiB per corpus]`. Prints MB/s of raw bytes, the best of a few
 * passes, and ratios; compare numbers of one run only. "decode" includes the check of the chunk's id.
 */
const CHUNK_BYTES = 1024 * 1024;
const PASSES = 5;
/** As many chunks under way at once as the engine has readers. */
const IN_FLIGHT = 8;

interface Measured {
  readonly encodeMbps: number;
  readonly decodeMbps: number;
  readonly ratio: number;
}

type Coded = readonly EncodedChunk[];
interface Contender {
  encode(chunks: readonly Buffer[]): Coded | Promise<Coded>;
  decode(coded: Coded, chunks: readonly Buffer[]): void | Promise<void>;
}

async function measure(bytes: Buffer, contender: Contender): Promise<Measured> {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) chunks.push(bytes.subarray(at, at + CHUNK_BYTES));
  let coded: Coded = [];
  let [encodeMs, decodeMs] = [Infinity, Infinity];
  for (let pass = 0; pass < PASSES; pass += 1) {
    const begunMs = systemClock.monotonicMs();
    coded = await contender.encode(chunks);
    const encodedMs = systemClock.monotonicMs();
    await contender.decode(coded, chunks);
    encodeMs = Math.min(encodeMs, encodedMs - begunMs);
    decodeMs = Math.min(decodeMs, systemClock.monotonicMs() - encodedMs);
  }
  const storedBytes = coded.reduce((sum, { frame }) => sum + frame.length, 0);
  const mbps = (ms: number) => bytes.length / ms / 1_000;
  return { encodeMbps: mbps(encodeMs), decodeMbps: mbps(decodeMs), ratio: bytes.length / storedBytes };
}

/** Applies `work` to every item, a few at a time, results in order. */
async function mapBounded<Item, Result>(items: readonly Item[], work: (item: Item, index: number) => Promise<Result>) {
  const results: Result[] = [];
  const entries = items.entries();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      for (const [index, item] of entries) results[index] = await work(item, index);
    }),
  );
  return results;
}

const plainLz4: Contender = {
  encode: (chunks) => chunks.map((raw) => ({ frame: compressBlock(raw), codec: 'lz4' as const })),
  decode: (coded, chunks) => {
    for (const [index, { frame }] of coded.entries()) hashHex(uncompressBlock(frame, chunks[index]?.length ?? 0));
  },
};

const libuvLz4: Contender = {
  encode: (chunks) => mapBounded(chunks, async (raw) => ({ frame: await compressBlockAsync(raw), codec: 'lz4' })),
  decode: async (coded, chunks) => {
    await mapBounded(coded, async ({ frame }, index) =>
      hashHex(await uncompressBlockAsync(frame, chunks[index]?.length ?? 0)),
    );
  },
};

function chosenHere(ids: readonly string[]): Contender {
  const coder = new ChunkCoder();
  return {
    encode: (chunks) => chunks.map((raw) => coder.encode(raw)),
    decode: (coded, chunks) => {
      for (const [index, { frame, codec }] of coded.entries()) {
        coder.decode(frame, { chunkId: ids[index] ?? '', codec, rawLength: chunks[index]?.length ?? 0 });
      }
    },
  };
}

function chosenInPool(pool: CodecPool, ids: readonly string[]): Contender {
  return {
    encode: (chunks) => mapBounded(chunks, (raw) => pool.encode(raw)),
    decode: async (coded, chunks) => {
      await mapBounded(coded, ({ frame, codec }, index) =>
        pool.decode(frame, { chunkId: ids[index] ?? '', codec, rawLength: chunks[index]?.length ?? 0 }),
      );
    },
  };
}

function print(name: string, contender: string, { encodeMbps, decodeMbps, ratio }: Measured): void {
  const numbers = [encodeMbps, decodeMbps].map((value) => value.toFixed(0).padStart(7)).join(' ');
  process.stdout.write(`${name.padEnd(8)} ${contender.padEnd(26)} ${numbers} ${ratio.toFixed(3).padStart(8)}\n`);
}

/** The `lz4` command's own benchmark on the same bytes: C, one thread, in memory. */
function lz4Command(name: string, bytes: Buffer): void {
  if (spawnSync('lz4', ['--version']).status !== 0) return;
  const path = join(tmpdir(), `dumont-bench-${process.pid}`);
  try {
    writeFileSync(path, bytes);
    const { stdout, stderr } = spawnSync('lz4', ['-b1', '-i1', path], { encoding: 'utf8' });
    const line = `${stdout}${stderr}`.split(/[\r\n]+/).findLast((text) => text.includes('MB/s')) ?? '';
    const [encodeMbps, decodeMbps] = [...line.matchAll(/([\d.]+) MB\/s/g)].map(([, number]) => Number(number));
    const ratio = bytes.length / execFileSync('lz4', ['-1c', path], { maxBuffer: 2 * bytes.length }).length;
    print(name, 'lz4 -b1 (C)', { encodeMbps: encodeMbps ?? NaN, decodeMbps: decodeMbps ?? NaN, ratio });
  } finally {
    rmSync(path, { force: true });
  }
}

const mebibytes = Number(process.argv[2] ?? 32);
process.stdout.write(`${'data'.padEnd(8)} ${'coder'.padEnd(26)}  encode  decode    ratio\n`);
for (const { name, bytes } of makeCorpora(mebibytes * CHUNK_BYTES)) {
  const ids: string[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) ids.push(hashHex(bytes.subarray(at, at + CHUNK_BYTES)));
  lz4Command(name, bytes);
  print(name, 'lz4-napi, this thread', await measure(bytes, plainLz4));
  print(name, 'lz4-napi, its threads', await measure(bytes, libuvLz4));
  print(name, 'by sample, this thread', await measure(bytes, chosenHere(ids)));
  await using pool = new CodecPool({ warmUpBytes: 0 });
  print(name, 'by sample, pool', await measure(bytes, chosenInPool(pool, ids)));
}
