import { chmod, cp, link, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';

/** Folder of the training stand-in inside the demo's workspace. */
export const TRAINING_FOLDER = 'dumont-demo';
/** Runs in the workspace folder. */
export const TRAINING_COMMAND = `node ${TRAINING_FOLDER}/train.mjs`;

const TRAIN_SCRIPT = fileURLToPath(new URL('./sample/train.mjs', import.meta.url));
const SHARD_COUNT = 4;
const SHARD_BYTES = 1_500_000;

/**
 * Lays out the folder that becomes the workspace: a copy of the user's, or the built-in sample; the training stand-in
 * is added to either. The original is never touched.
 * @throws {DumontError} IO naming the file that cannot be copied
 */
export async function stageWorkspace(target: string, source: string | undefined): Promise<void> {
  await mkdir(target, { recursive: true });
  if (source === undefined) await writeSample(target);
  else await copyFolder(source, target);
  await mkdir(join(target, TRAINING_FOLDER), { recursive: true });
  await cp(TRAIN_SCRIPT, join(target, TRAINING_FOLDER, 'train.mjs'));
}

async function copyFolder(source: string, target: string): Promise<void> {
  try {
    await cp(source, target, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  } catch (error) {
    throw new DumontError('IO', `cannot copy the workspace: ${toDumontError(error).message}`, {
      field: '--workspace',
      hint: 'Make every file in it readable, or name another folder.',
      cause: error,
    });
  }
}

/** A little of everything a real workspace has: data, code, links, odd names, permissions, empty files. */
async function writeSample(target: string): Promise<void> {
  const text: Readonly<Record<string, string>> = {
    'README.md':
      '# Sample workspace\n\nA fine-tuning job in miniature. Its progress is in dumont-demo/logs/train.log.\n',
    'src/model.py': 'def forward(x):\n    return x * 2\n',
    'src/.hidden/settings.json': '{"learning_rate": 3e-4, "seed": 42}\n',
    'notes/odd names/ação — 実験 №1.txt': 'Names may hold anything but a slash.\n',
    'notes/empty.txt': '',
    'scripts/evaluate.sh': '#!/bin/sh\necho evaluated\n',
  };
  for (const [path, content] of Object.entries(text)) {
    await mkdir(dirname(join(target, path)), { recursive: true });
    await writeFile(join(target, path), content);
  }
  await chmod(join(target, 'scripts/evaluate.sh'), 0o755);
  await symlink('src/model.py', join(target, 'model'));
  await link(join(target, 'README.md'), join(target, 'notes/readme-again.md'));
  await mkdir(join(target, 'outputs'), { recursive: true });
  await mkdir(join(target, 'data'), { recursive: true });
  for (let shard = 0; shard < SHARD_COUNT; shard += 1) {
    await writeFile(join(target, 'data', `shard-${shard}.bin`), shardBytes(shard));
  }
}

/** Tokenised text as it looks on disk: small numbers in 16 bits, the same at every start. */
function shardBytes(seed: number): Uint8Array {
  const random = seededRandom(seed + 1);
  const tokens = new Uint16Array(SHARD_BYTES / 2);
  for (let index = 0; index < tokens.length; index += 1) tokens[index] = Math.floor(random.next() ** 3 * 32_000);
  return new Uint8Array(tokens.buffer);
}
