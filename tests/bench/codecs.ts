import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { CodecKernel } from '@dumont/agent/snapshot/planes/codec-kernel.ts';
import {
  ChunkCoder,
  maxFrameBytes,
  type ChunkHint,
  type CodingOptions,
  type EncodedChunk,
} from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import { makeCorpora, trainedOn } from '../world/corpora.ts';

/**
 * Measures the codecs: `node tests/bench/codecs.ts [MiB per corpus] [file …]`. Prints MB/s of raw bytes, the best of a few
 * passes, and ratios; compare numbers of one run only. "decode" of a coder includes the check of the chunk's id; "LZ4 blocks"
 * are the kernel's alone, as `lz4 -b1` measures the C library.
 */
const CHUNK_BYTES = 1024 * 1024;
const PASSES = 5;

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

/** LZ4 blocks in the kernel's memory, copied into and out of it as a coder does. */
function kernelLz4(): Contender {
  const kernel = new CodecKernel();
  return {
    encode: (chunks) =>
      chunks.map((raw) => {
        const length = kernel.packBlock(kernel.load(raw), 0);
        return length === 0
          ? { frame: raw, codec: 'stored' }
          : { frame: Buffer.from(kernel.frame.subarray(0, length)), codec: 'lz4' };
      }),
    decode: (coded, chunks) => {
      for (const [index, { frame, codec }] of coded.entries()) {
        const raw = kernel.raw(chunks[index]?.length ?? 0);
        if (codec === 'stored') raw.set(frame);
        else kernel.unpackBlock(frame, raw);
      }
    },
  };
}

interface Known {
  readonly ids: readonly string[];
  readonly hintAt: (index: number) => ChunkHint;
}

function chosenHere(effort: CodingOptions['effort'], { ids, hintAt }: Known): Contender {
  const coder = new ChunkCoder({ secrets: null, effort });
  const pack = Buffer.alloc(maxFrameBytes(CHUNK_BYTES));
  return {
    encode: (chunks) =>
      chunks.map((raw, index) => {
        const { length, codec } = coder.encodeInto(raw, hintAt(index), pack, 0);
        return { frame: Buffer.from(pack.subarray(0, length)), codec };
      }),
    decode: (coded, chunks) => {
      for (const [index, { frame, codec }] of coded.entries()) {
        const expected = { chunkId: ids[index] ?? '', codec, rawLength: chunks[index]?.length ?? 0 };
        coder.decodeView(frame, expected, hintAt(index).base);
      }
    },
  };
}

function print(name: string, contender: string, { encodeMbps, decodeMbps, ratio }: Measured): void {
  const numbers = [encodeMbps, decodeMbps].map((value) => value.toFixed(0).padStart(7)).join(' ');
  process.stdout.write(`${name.padEnd(16)} ${contender.padEnd(22)} ${numbers} ${ratio.toFixed(3).padStart(8)}\n`);
}

/** The `lz4` command's own benchmark on the same bytes: C, one thread, in memory. */
function lz4Command(name: string, bytes: Buffer): void {
  if (spawnSync('lz4', ['--version']).status !== 0) return;
  const path = join(tmpdir(), `dumont-bench-${process.pid}`);
  try {
    writeFileSync(path, bytes);
    const { stdout, stderr } = spawnSync('lz4', ['-b1', '-i3', '-B7', path], { encoding: 'utf8' });
    const line = `${stdout}${stderr}`.split(/[\r\n]+/).findLast((text) => text.includes('MB/s')) ?? '';
    const [encodeMbps, decodeMbps] = [...line.matchAll(/([\d.]+) MB\/s/g)].map(([, number]) => Number(number));
    const ratio = bytes.length / execFileSync('lz4', ['-1c', path], { maxBuffer: 2 * bytes.length }).length;
    print(name, 'lz4 -b1 (C)', { encodeMbps: encodeMbps ?? NaN, decodeMbps: decodeMbps ?? NaN, ratio });
  } finally {
    rmSync(path, { force: true });
  }
}

function knownOf(bytes: Buffer, base?: Buffer): Known {
  const ids: string[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) ids.push(hashHex(bytes.subarray(at, at + CHUNK_BYTES)));
  const hintAt = (index: number) =>
    base === undefined ? {} : { base: base.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES) };
  return { ids, hintAt };
}

const mebibytes = Number(process.argv[2] ?? 32);
const files = process.argv.slice(3).map((path) => {
  const name = path.split('/').at(-1) ?? path;
  return { name, bytes: readFileSync(path).subarray(0, mebibytes * CHUNK_BYTES) };
});
process.stdout.write(`${'data'.padEnd(16)} ${'coder'.padEnd(22)}  encode  decode    ratio\n`);
for (const { name, bytes } of [...makeCorpora(mebibytes * CHUNK_BYTES), ...files]) {
  const known = knownOf(bytes);
  lz4Command(name, bytes);
  print(name, 'LZ4 blocks (kernel)', await measure(bytes, kernelLz4()));
  print(name, 'fast, this thread', await measure(bytes, chosenHere('fast', known)));
  print(name, 'small, this thread', await measure(bytes, chosenHere('small', known)));
}
for (const step of [1e-2, 1e-3, 1e-4]) {
  const [base, bytes] = trainedOn((mebibytes * CHUNK_BYTES) / 2, step);
  print(`bf16 step ${step}`, 'difference', await measure(bytes, chosenHere('fast', knownOf(bytes, base))));
}
