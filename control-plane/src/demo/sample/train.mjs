// A stand-in for a training job, in plain JavaScript so that it runs wherever the agent runs.
//
//   every 100 ms   one numbered line in logs/train.log
//   every 20 lines a checkpoint of 4 MiB in checkpoints/, complete or absent: temp file, fsync, rename
//   at the start   goes on from the newest checkpoint whose checksum is right
//
// Every byte of a checkpoint follows from its step, so anybody can tell a right one from a wrong one.
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

const STEP_MS = 100;
const STEPS_PER_CHECKPOINT = 20;
const CHECKPOINT_BYTES = 4 * 1024 * 1024;
const CHECKPOINTS_KEPT = 12;
const CHECKPOINT_NAME = /^step-(\d{8})\.ckpt$/;

const here = import.meta.dirname;
const checkpoints = join(here, 'checkpoints');
const logFile = join(here, 'logs', 'train.log');
mkdirSync(checkpoints, { recursive: true });
mkdirSync(join(here, 'logs'), { recursive: true });

/** Weights as training leaves them: half of the bytes noisy, half of them alike. */
function weightsAt(step) {
  const bytes = Buffer.alloc(CHECKPOINT_BYTES);
  let state = (step * 2654435761) >>> 0 || 1;
  for (let offset = 0; offset < bytes.length; offset += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes.writeUInt16LE(state & 0xffff, offset);
    bytes.writeUInt16LE(0x3f80 + (state >>> 30), offset + 2);
  }
  return bytes;
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest();
}

function saveCheckpoint(step) {
  const weights = weightsAt(step);
  const name = `step-${String(step).padStart(8, '0')}.ckpt`;
  const temporary = join(checkpoints, `.${name}.tmp`);
  const file = openSync(temporary, 'w');
  writeSync(file, weights);
  writeSync(file, sha256(weights));
  fsyncSync(file);
  closeSync(file);
  renameSync(temporary, join(checkpoints, name));
  for (const old of listCheckpoints().slice(CHECKPOINTS_KEPT)) rmSync(join(checkpoints, old.name), { force: true });
  log(`checkpoint ${name}`);
}

/** Newest first. */
function listCheckpoints() {
  return readdirSync(checkpoints)
    .map((name) => ({ name, step: Number(CHECKPOINT_NAME.exec(name)?.[1] ?? Number.NaN) }))
    .filter(({ step }) => Number.isSafeInteger(step))
    .sort((a, b) => b.step - a.step);
}

function newestGoodCheckpoint() {
  for (const { name, step } of listCheckpoints()) {
    const bytes = readFileSync(join(checkpoints, name));
    const weights = bytes.subarray(0, CHECKPOINT_BYTES);
    if (bytes.length === CHECKPOINT_BYTES + 32 && sha256(weights).equals(bytes.subarray(CHECKPOINT_BYTES)))
      return { name, step };
    log(`checkpoint ${name} is not complete, ignored`);
  }
  return undefined;
}

function log(text) {
  appendFileSync(logFile, `${Date.now()} ${text}\n`);
}

const resumedFrom = newestGoodCheckpoint();
let step = resumedFrom?.step ?? 0;
log(resumedFrom === undefined ? 'started from scratch' : `resumed from ${resumedFrom.name}`);

let due = performance.now() + STEP_MS;
function tick() {
  step += 1;
  log(`step ${step} loss ${(2 * Math.exp(-step / 400) + 0.1).toFixed(6)}`);
  if (step % STEPS_PER_CHECKPOINT === 0) saveCheckpoint(step);
  due = Math.max(due + STEP_MS, performance.now());
  setTimeout(tick, due - performance.now());
}
setTimeout(tick, STEP_MS);
