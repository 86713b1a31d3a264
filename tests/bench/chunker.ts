import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { newId } from '@dumont/shared/model/ids.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { CutWindow, MAX_CHUNK_BYTES } from '@dumont/agent/snapshot/cdc/cut-window.ts';
import { hashHex } from '@dumont/agent/snapshot/chunk-codec.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import { chunksOf, seededBytes } from '../world/chunking.ts';
import { referenceCuts } from '../world/reference-cut.ts';
import { makeTempFolder } from '../world/temp-folder.ts';

/**
 * How fast content is cut, beside the same rule in plain TypeScript and the hash of the same bytes, all in one run: on a
 * shared machine only the ratios mean anything. With `--snapshot`, also a whole first snapshot of these bytes.
 */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { snapshot: { type: 'boolean', default: false } } });
  const samples = makeSamples();
  for (const [name, bytes] of Object.entries(samples)) print(await measure(name, bytes));
  if (values.snapshot) print(await measureSnapshot(samples));
}

const SAMPLE_BYTES = 64 * 1024 * 1024;
/** The plain rule is slow: a part shows its speed. */
const REFERENCE_BYTES = 8 * 1024 * 1024;
const ROUNDS = 5;
const SNAPSHOT_ROUNDS = 3;

function makeSamples(): Readonly<Record<string, Buffer>> {
  const random = seededRandom(1);
  const bf16 = Buffer.alloc(SAMPLE_BYTES);
  const float = new DataView(new ArrayBuffer(4));
  for (let at = 0; at < bf16.length; at += 2) {
    float.setFloat32(0, (random.next() + random.next() + random.next() - 1.5) * 0.04);
    bf16.writeUInt16LE(float.getUint16(0), at);
  }
  const lines: string[] = [];
  for (let step = 0; step < SAMPLE_BYTES / 44; step += 1) {
    lines.push(`step=${String(step).padStart(8, '0')} loss=${random.next().toFixed(6)} lr=0.000300\n`);
  }
  return {
    random: seededBytes(SAMPLE_BYTES, 2),
    text: Buffer.from(lines.join('')).subarray(0, SAMPLE_BYTES),
    bf16,
    zero: Buffer.alloc(SAMPLE_BYTES),
    // The worst case: every second position passes the first stage, none the second.
    candidates: Buffer.alloc(SAMPLE_BYTES, densestUnit()),
  };
}

/** Two bytes that, repeated, make as many candidates as repeated bytes can, and no cut. */
function densestUnit(): Buffer {
  const unit = Buffer.alloc(2);
  for (let value = 0; value < 0x1_0000; value += 1) {
    const hash = Math.imul(Math.imul(value, 0x6f4b) + value, 0x2c8d) + Math.imul(value, 0x6f4b) + value;
    unit.writeUInt16LE(value);
    if ((hash & 0xffff) >>> 4 === 0x7ff && referenceCuts(Buffer.alloc(REFERENCE_BYTES, unit))[0] === MAX_CHUNK_BYTES)
      break;
  }
  return unit;
}

async function measure(name: string, bytes: Buffer): Promise<Readonly<Record<string, string | number>>> {
  const window = new CutWindow();
  bytes.copy(window.bytes);
  const held = window.bytes.length;
  const scanMs = await best(() => {
    for (let start = 0; start < held;) {
      const end = Math.min(held, start + MAX_CHUNK_BYTES);
      start = window.findCut(start, start, end) ?? end;
    }
  });
  const hashMs = await best(() => void hashHex(window.bytes));
  const part = bytes.subarray(0, REFERENCE_BYTES);
  const referenceMs = await best(() => void referenceCuts(part));
  const chunks = chunksOf(bytes);
  const scan = speed(held, scanMs);
  const reference = speed(part.length, referenceMs);
  return {
    data: name,
    'cut MB/s': scan,
    'plain rule MB/s': reference,
    'times faster': Math.round(scan / reference),
    'BLAKE3 MB/s': speed(held, hashMs),
    'mean KiB': Math.round(bytes.length / chunks.length / 1024),
  };
}

async function measureSnapshot(samples: Readonly<Record<string, Buffer>>) {
  await using folder = await makeTempFolder();
  const root = join(folder.path, 'ws');
  await mkdir(root);
  for (const [name, bytes] of Object.entries(samples)) await writeFile(join(root, name), bytes);
  let round = 0;
  let cpuMs = Number.POSITIVE_INFINITY;
  const wallMs = await best(async () => {
    round += 1;
    const store = new FileStore(join(folder.path, `store${round}`));
    const identity = { workspaceId: newId('workspace'), writerId: 'bench', toolVersion: 'bench' };
    const snapshotter = new Snapshotter({ store, root, clock: systemClock, ...identity });
    const before = process.cpuUsage();
    await snapshotter.create({ epoch: 1, parent: null });
    const { user, system } = process.cpuUsage(before);
    cpuMs = Math.min(cpuMs, (user + system) / 1_000);
  }, SNAPSHOT_ROUNDS);
  const bytes = Object.values(samples).reduce((sum, { length }) => sum + length, 0);
  return { data: 'a snapshot of all', 'MB/s': speed(bytes, wallMs), 'CPU ms': Math.round(cpuMs) };
}

async function best(work: () => void | Promise<void>, rounds = ROUNDS): Promise<number> {
  let bestMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round += 1) {
    const begunMs = systemClock.monotonicMs();
    await work();
    bestMs = Math.min(bestMs, systemClock.monotonicMs() - begunMs);
  }
  return bestMs;
}

function speed(bytes: number, ms: number): number {
  return Math.round(bytes / 1_000 / ms);
}

function print(row: Readonly<Record<string, string | number>>): void {
  const cells = Object.entries(row).map(([key, value]) => `${key} ${value}`.padEnd(22));
  process.stdout.write(`${cells.join('')}\n`);
}

await main();
