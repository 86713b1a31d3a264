import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The file of the workspace that every tick is appended to. */
export const TICKS_FILE = 'ticks.log';

/** A line fits several times. */
const TAIL_BYTES = 1_024;

/** One write of the workload. */
export interface Tick {
  /** Grows by one over the whole life of the workspace, from machine to machine. */
  readonly count: number;
  /** The machine's reference at its provider. */
  readonly machine: string;
  /** On the clock that all processes of this computer share, ms. */
  readonly monotonicMs: number;
  readonly wallMs: number;
  readonly bytes: number;
}

/**
 * The workload as the text of one file. Every 20 ms it appends a numbered line to the workspace, and the same line to a log
 * that no machine's fate touches: what was written is known whatever becomes of the machine. It goes on with the number after
 * the last in the workspace, and tells over HTTP where it runs.
 */
export const TICK_WORKLOAD = `
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
const machine = process.env.DUMONT_MACHINE_REF;
const outside = process.env.CHAOS_EVIDENCE + '/' + machine + '.log';
const text = existsSync('${TICKS_FILE}') ? readFileSync('${TICKS_FILE}', 'utf8') : '';
const whole = text.slice(0, text.lastIndexOf('\\n') + 1).trimEnd();
let count = Number(whole.slice(whole.lastIndexOf('\\n') + 1).split(' ')[0]) || 0;
let torn = text !== '' && !text.endsWith('\\n');
setInterval(() => {
  const monotonicMs = Number(process.hrtime.bigint()) / 1e6;
  const wallMs = performance.timeOrigin + performance.now();
  const line = [count + 1, machine, monotonicMs.toFixed(3), wallMs.toFixed(3)].join(' ') + '\\n';
  try {
    appendFileSync('${TICKS_FILE}', torn ? '\\n' + line : line);
  } catch {
    // A full disk may have taken a part of it.
    torn = true;
    return;
  }
  torn = false;
  count += 1;
  appendFileSync(outside, line);
}, 20);
createServer((_, response) => response.end(JSON.stringify({ machine, count })))
  .listen(8080, process.env.DUMONT_MACHINE_HOST);
`;

/** Whole lines only; what a full disk cut short is passed over. Pure. */
export function parseTicks(text: string): readonly Tick[] {
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.flatMap((line) => {
    const [count, machine, monotonicMs, wallMs] = line.split(' ');
    if (machine === undefined || wallMs === undefined || !/^\d+\.\d{3}$/.test(wallMs)) return [];
    const bytes = line.length + 1;
    return [{ count: Number(count), machine, monotonicMs: Number(monotonicMs), wallMs: Number(wallMs), bytes }];
  });
}

/** What a workspace folder holds; none when there is no such file. */
export async function ticksIn(workspaceFolder: string): Promise<readonly Tick[]> {
  return parseTicks(await readFile(join(workspaceFolder, TICKS_FILE), 'utf8').catch(() => ''));
}

/** The newest line of a workspace folder, without reading the rest; null when there is none. */
export async function lastTickIn(workspaceFolder: string): Promise<Tick | null> {
  try {
    await using file = await open(join(workspaceFolder, TICKS_FILE));
    const { size } = await file.stat();
    const from = Math.max(0, size - TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(TAIL_BYTES), 0, TAIL_BYTES, from);
    const text = buffer.toString('latin1', 0, bytesRead);
    return parseTicks(from === 0 ? text : text.slice(text.indexOf('\n') + 1)).at(-1) ?? null;
  } catch {
    // Not there yet, or its machine is being destroyed.
    return null;
  }
}

/** Everything that was ever written, by machine. */
export async function ticksOutside(folder: string): Promise<ReadonlyMap<string, readonly Tick[]>> {
  const names = await readdir(folder);
  const entries = names.map(async (name) => {
    return [name.replace(/\.log$/, ''), parseTicks(await readFile(join(folder, name), 'utf8'))] as const;
  });
  return new Map(await Promise.all(entries));
}
