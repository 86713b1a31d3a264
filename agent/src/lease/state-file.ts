import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { STANDINGS } from '@dumont/shared/model/instance.ts';
import { epochSchema, wallMsSchema } from '@dumont/shared/protocol/primitives.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { z } from 'zod';
import { writeFileAtomic } from '../host/write-file-atomic.ts';

const agentStateSchema = z.object({
  /** The highest epoch ever heard; goes into `hello`. */
  highestEpoch: epochSchema,
  /** Of the last assignment; null before the first. */
  standing: z.enum(STANDINGS).nullable(),
  /** True from an accepted start until a stop, a fence or the command's own end: start it again after a restart. */
  workloadWanted: z.boolean(),
  /** Wall time before which everything was in a committed snapshot, by the newest one; null before the first. */
  savedBeforeMs: wallMsSchema.nullable().default(null),
});
/** What an agent remembers over a restart. */
export type AgentState = z.infer<typeof agentStateSchema>;

const FRESH: AgentState = { highestEpoch: 0, standing: null, workloadWanted: false, savedBeforeMs: null };

/** Keeps {@link AgentState} in a file. Writes happen one after another; the newest state wins. */
export class StateFile {
  readonly #path: string;
  #state: AgentState;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, state: AgentState) {
    this.#path = path;
    this.#state = state;
  }

  /**
   * Reads the file, or starts fresh when there is none. A file that cannot be understood counts as none: whatever it
   * said, the next welcome says it anew.
   * @throws {DumontError} IO when it exists but cannot be read, or its folder cannot be made
   */
  static async open(path: string): Promise<StateFile> {
    let text: string | null = null;
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw toDumontError(error, 'IO', `reading ${path}`);
    }
    return new StateFile(path, text === null ? FRESH : parseState(text));
  }

  get state(): AgentState {
    return this.#state;
  }

  /** Changes the state at once and on disk when the promise resolves; without a difference nothing is written. */
  update(change: Partial<AgentState>): Promise<void> {
    const changed = { ...this.#state, ...change };
    if (JSON.stringify(changed) === JSON.stringify(this.#state)) return this.#writing;
    this.#state = changed;
    const write = () => this.#write(changed);
    // A write that failed is its caller's matter; the next one is tried all the same.
    this.#writing = this.#writing.then(write, write);
    return this.#writing;
  }

  async #write(state: AgentState): Promise<void> {
    await writeFileAtomic(this.#path, `${JSON.stringify(state)}\n`);
  }
}

function parseState(text: string): AgentState {
  try {
    return agentStateSchema.parse(JSON.parse(text));
  } catch {
    return FRESH;
  }
}

/**
 * From when on changes may be unsaved (monotonic), as far as an earlier agent process could say: it took its own
 * knowledge along, so anything since its last snapshot may be. Null when there is nothing to lose. Pure.
 */
export function unsavedSince({ standing, savedBeforeMs }: AgentState, clock: Clock): number | null {
  if (standing !== 'primary' || savedBeforeMs === null) return null;
  // A wall clock that was set back in between must not make it look saved.
  return clock.monotonicMs() - Math.max(0, clock.nowMs() - savedBeforeMs);
}
