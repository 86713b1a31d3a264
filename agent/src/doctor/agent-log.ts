import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';

/** Hours of an agent in good order, minutes of one in trouble. */
const TAIL_BYTES = 65_536;
const MAX_MESSAGE_LENGTH = 200;
/** Levels of pino: error, fatal. */
const ERROR_LEVEL = 50;

export interface AgentLog {
  /** Null when there is no log to read. */
  readonly path: string | null;
  /** What the control plane answered last. */
  readonly lastWord: 'welcomed' | 'refused' | null;
  /** An error after which the agent was not welcomed again. */
  readonly lastError: string | null;
  /** Welcomes in what was read. */
  readonly startCount: number;
}

const NONE: AgentLog = { path: null, lastWord: null, lastError: null, startCount: 0 };

/** What the end of the agent's log tells. Never throws. */
export async function readAgentLog(stateDir: string): Promise<AgentLog> {
  const path = join(stateDir, 'log', 'agent.log');
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.min(size, TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return { path, ...lastOf(buffer.toString('utf8', 0, bytesRead)) };
  } catch {
    return NONE;
  }
}

/** Reads lines of the agent's log, JSON or plain ones of its end. Pure. */
export function lastOf(text: string): Omit<AgentLog, 'path'> {
  let [lastWord, lastError, startCount]: [AgentLog['lastWord'], string | null, number] = [null, null, 0];
  for (const line of text.split('\n')) {
    if (line.startsWith('error: ')) lastError = line.slice(7, 7 + MAX_MESSAGE_LENGTH);
    const fields = tryParseJson(line);
    if (typeof fields !== 'object' || fields === null) continue;
    const { event, reason, level, msg } = fields as Readonly<Record<string, unknown>>;
    if (event === 'welcomed') {
      [lastWord, lastError] = ['welcomed', null];
      startCount += 1;
    } else if (reason === 'unauthorized') lastWord = 'refused';
    else if (typeof level === 'number' && level >= ERROR_LEVEL) lastError = String(msg).slice(0, MAX_MESSAGE_LENGTH);
  }
  return { lastWord, lastError, startCount };
}
