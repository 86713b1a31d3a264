import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { access, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { weights } from '../../world/corpora.ts';
import { random32 } from '../../world/random32.ts';
import { safetensorsFile } from '../../world/tensor-files.ts';
import { databasePages, image, noise, TextMaker } from './content.ts';

/** Goes up when the content changes, so that a cache of an earlier one is not used. */
const VERSION = 1;
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

export type CorpusSize = 'small' | 'full';

/** Folders of files as they lie in workspaces; `source` always has 30,000 files. */
export const CORPUS_KINDS = ['bf16', 'source', 'logs', 'images', 'database'] as const;
export type CorpusKind = (typeof CORPUS_KINDS)[number];

/** `before` and `after` hold one file of 512 MiB, with 200 short insertions in the latter; `sparse` one of 20 GiB. */
export type SpecialCorpus = 'before' | 'after' | 'sparse';

const SOURCE_FILES = 30_000;
const SOURCE_FILES_PER_FOLDER = 50;
/** Bytes of each kind. */
const SIZES: Readonly<Record<CorpusSize, Readonly<Record<CorpusKind, number>>>> = {
  small: { bf16: 96 * MIB, source: 96 * MIB, logs: 48 * MIB, images: 32 * MIB, database: 32 * MIB },
  full: { bf16: 1_280 * MIB, source: 288 * MIB, logs: 512 * MIB, images: 512 * MIB, database: 512 * MIB },
};

export const DEDUP_BYTES = 512 * MIB;
const INSERTIONS = 200;
const SPARSE_BYTES = 20 * GIB;
const SPARSE_ISLAND_BYTES = 64 * 1024;
const SPARSE_ISLANDS = 50;

/**
 * The folder of a corpus below `cache`, made on first use: the same bytes every time. Generating runs at some 20 to 100
 * MB/s; an interrupted one is started again.
 */
export async function corpusFolder(cache: string, size: CorpusSize, kind: CorpusKind | SpecialCorpus): Promise<string> {
  const isSized = (CORPUS_KINDS as readonly string[]).includes(kind);
  const folder = join(cache, `v${VERSION}${isSized ? `-${size}` : ''}`, kind);
  const mark = `${folder}.complete`;
  const isThere = await access(mark).then(
    () => true,
    () => false,
  );
  if (isThere) return folder;
  process.stderr.write(`generating ${folder}\n`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await GENERATORS[kind](folder, isSized ? SIZES[size][kind as CorpusKind] : 0);
  await writeFile(mark, '');
  return folder;
}

type Generator = (folder: string, lengthBytes: number) => Promise<void> | void;

const GENERATORS: Readonly<Record<CorpusKind | SpecialCorpus, Generator>> = {
  bf16: makeWeights,
  source: makeSource,
  logs: makeLogs,
  images: makeImages,
  database: makeDatabase,
  before: (folder) => makeDedupFile(folder, []),
  after: (folder) => makeDedupFile(folder, insertions()),
  sparse: makeSparseFile,
};

const SHARD_BYTES = 96 * MIB;

/** Shards of a model: layers of a few matrices and vectors each, as a transformer has them. */
async function makeWeights(folder: string, lengthBytes: number): Promise<void> {
  for (let shard = 0, at = 0; at < lengthBytes; shard += 1, at += SHARD_BYTES) {
    const values = weights(Math.min(SHARD_BYTES, lengthBytes - at), 'bf16', 1 + shard);
    const tensors = [];
    for (let from = 0, layer = 0; from < values.length; layer += 1) {
      for (const [name, length] of [
        ['norm', 8_192],
        ['qkv', 12 * MIB],
        ['up', 18 * MIB],
        ['bias', 24_576],
      ] as const) {
        const bytes = values.subarray(from, from + length);
        if (bytes.length > 0) tensors.push({ name: `model.layers.${shard}.${layer}.${name}`, bytes });
        from += length;
      }
    }
    await writeFile(join(folder, `model-${String(shard).padStart(5, '0')}.safetensors`), safetensorsFile(tensors));
  }
}

/** File sizes spread as in real trees: most of a few KiB, some ten times that. */
async function makeSource(folder: string, lengthBytes: number): Promise<void> {
  const next = random32(11);
  const text = new TextMaker(12);
  const meanBytes = lengthBytes / SOURCE_FILES;
  for (let index = 0; index < SOURCE_FILES; index += 1) {
    const number = Math.floor(index / SOURCE_FILES_PER_FOLDER);
    const parent = join(folder, `package-${Math.floor(number / 20)}`, `module-${number}`);
    if (index % SOURCE_FILES_PER_FOLDER === 0) await mkdir(parent, { recursive: true });
    const size = Math.round(-Math.log((next() + 1) / (2 ** 32 + 1)) * meanBytes);
    await writeFile(join(parent, `file-${index}.ts`), text.source(size));
  }
}

const LOG_BYTES = 16 * MIB;

async function makeLogs(folder: string, lengthBytes: number): Promise<void> {
  const text = new TextMaker(21);
  for (let at = 0; at < lengthBytes; at += LOG_BYTES) {
    await writeFile(join(folder, `train-${at / LOG_BYTES}.log`), text.log(Math.min(LOG_BYTES, lengthBytes - at)));
  }
}

async function makeImages(folder: string, lengthBytes: number): Promise<void> {
  const next = random32(31);
  for (let at = 0, index = 0; at < lengthBytes; index += 1) {
    const size = 60_000 + (next() % 400_000);
    await writeFile(join(folder, `image-${index}.jpg`), image(size, next));
    at += size;
  }
}

const PAGES_AT_ONCE = 1_024;

async function makeDatabase(folder: string, lengthBytes: number): Promise<void> {
  const next = random32(41);
  const text = new TextMaker(42);
  const path = join(folder, 'runs.db');
  for (let at = 0; at < lengthBytes;) {
    const pages = databasePages(PAGES_AT_ONCE, next, text);
    await writeFile(path, pages, { flag: 'a' });
    at += pages.length;
  }
}

interface Insertion {
  readonly offset: number;
  readonly bytes: Buffer;
}

function insertions(): readonly Insertion[] {
  const next = random32(51);
  return Array.from({ length: INSERTIONS }, () => ({
    offset: Math.floor((next() / 2 ** 32) * DEDUP_BYTES),
    bytes: noise(1 + (next() % 100), next),
  })).toSorted((a, b) => a.offset - b.offset);
}

async function makeDedupFile(folder: string, inserted: readonly Insertion[]): Promise<void> {
  const whole = noise(DEDUP_BYTES, random32(52));
  const parts: Buffer[] = [];
  let at = 0;
  for (const { offset, bytes } of inserted) {
    parts.push(whole.subarray(at, offset), bytes);
    at = offset;
  }
  await writeFile(join(folder, 'data.bin'), [...parts, whole.subarray(at)]);
}

/** Islands of data in a file that is else one hole. */
function makeSparseFile(folder: string): void {
  const next = random32(61);
  const file = openSync(join(folder, 'disk.img'), 'w');
  try {
    ftruncateSync(file, SPARSE_BYTES);
    for (let index = 0; index < SPARSE_ISLANDS; index += 1) {
      const offset = Math.floor((next() / 2 ** 32) * (SPARSE_BYTES / SPARSE_ISLAND_BYTES - 1)) * SPARSE_ISLAND_BYTES;
      writeSync(file, noise(SPARSE_ISLAND_BYTES, next), 0, SPARSE_ISLAND_BYTES, offset);
    }
  } finally {
    closeSync(file);
  }
}
