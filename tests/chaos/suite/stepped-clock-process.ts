import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { OFFSET_FILE } from './wall-clock.ts';

/**
 * Loaded into a process before its program: its wall clock is off by what a file says, from the moment the file says so. The
 * monotonic clock is left alone, as an operator or a time server leaves it.
 */
const READ_EVERY_MS = 20;

const machineFolder = dirname(dirname(process.env['DUMONT_WORKSPACE_DIR'] ?? ''));
const offsetPath = process.env['CHAOS_CLOCK_FILE'] ?? join(machineFolder, OFFSET_FILE);
const { Date: RealDate } = globalThis;
const realNow = RealDate.now.bind(RealDate);
let [offsetMs, readAtMs] = [0, 0];

function now(): number {
  const nowMs = realNow();
  if (nowMs - readAtMs >= READ_EVERY_MS) {
    readAtMs = nowMs;
    offsetMs = readOffset();
  }
  return nowMs + offsetMs;
}

function readOffset(): number {
  try {
    return Number(readFileSync(offsetPath, 'utf8'));
  } catch {
    return 0;
  }
}

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) => {
    return Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as object;
  },
  get: (target, name) => (name === 'now' ? now : (Reflect.get(target, name) as unknown)),
});
