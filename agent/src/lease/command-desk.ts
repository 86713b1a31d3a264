import type { CommandId } from '@dumont/shared/model/ids.ts';
import type {
  Action,
  ActionResult,
  Command,
  CommandAck,
  CommandProgress,
  CommandResult,
} from '@dumont/shared/protocol/command.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { WorkOptions } from './engine.ts';

/** The control plane repeats a command only while it waits for its result; far fewer than this wait at a time. */
export const REMEMBERED_RESULTS = 64;
/** One operation drives a workspace, and it sends one command after another. */
export const MAX_RUNNING_COMMANDS = 8;
const PROGRESS_INTERVAL_MS = 500;
const MAX_ERROR_CHARS = 4_000;

export interface CommandDeskOptions {
  readonly perform: (action: Action, options: WorkOptions) => Promise<ActionResult>;
  readonly send: (message: CommandAck | CommandProgress | CommandResult) => void;
  readonly clock: Clock;
}

/**
 * Takes commands in: acknowledges at once, runs each command id once, reports progress and the result. A repeated
 * command joins the running one or gets the remembered result again.
 */
export class CommandDesk {
  readonly #options: CommandDeskOptions;
  readonly #running = new Map<CommandId, { readonly abort: AbortController; readonly done: Promise<void> }>();
  readonly #results = new Map<CommandId, CommandResult>();

  constructor(options: CommandDeskOptions) {
    this.#options = options;
  }

  /** Never throws: failures are results. */
  receive(command: Command): void {
    const { send } = this.#options;
    const { commandId, action } = command;
    send({ kind: 'command-ack', commandId });
    const known = this.#results.get(commandId);
    if (known !== undefined) {
      send(known);
      return;
    }
    if (this.#running.has(commandId)) return;
    if (this.#running.size >= MAX_RUNNING_COMMANDS) {
      const refusal = new DumontError('LIMIT', `${this.#running.size} commands run already`, { retryable: true });
      send({ kind: 'command-result', commandId, outcome: failed(refusal) });
      return;
    }
    const abort = new AbortController();
    this.#running.set(commandId, { abort, done: this.#run(commandId, action, abort.signal) });
  }

  /** Aborts what runs, for instance because this agent was fenced; each command reports its failure. */
  abortAll(reason: DumontError): void {
    for (const { abort } of this.#running.values()) abort.abort(reason);
  }

  /** Resolves when no command that runs now is left. */
  async settled(): Promise<void> {
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  async #run(commandId: CommandId, action: Action, signal: AbortSignal): Promise<void> {
    const { perform, send } = this.#options;
    let outcome: CommandResult['outcome'];
    try {
      const result = await perform(action, { signal, onProgress: this.#progressOf(commandId) });
      outcome = { ok: true, result };
    } catch (error) {
      const cause: unknown = signal.aborted ? signal.reason : error;
      outcome = failed(toDumontError(cause));
    }
    const message: CommandResult = { kind: 'command-result', commandId, outcome };
    this.#running.delete(commandId);
    this.#remember(message);
    send(message);
  }

  #remember(result: CommandResult): void {
    this.#results.set(result.commandId, result);
    if (this.#results.size <= REMEMBERED_RESULTS) return;
    const [oldest] = this.#results.keys();
    if (oldest !== undefined) this.#results.delete(oldest);
  }

  #progressOf(commandId: CommandId): WorkOptions['onProgress'] {
    const { clock, send } = this.#options;
    let nextMs = -Infinity;
    return (progress) => {
      const nowMs = clock.monotonicMs();
      if (nowMs < nextMs) return;
      nextMs = nowMs + PROGRESS_INTERVAL_MS;
      send({ kind: 'command-progress', commandId, ...progress });
    };
  }
}

function failed(error: DumontError): CommandResult['outcome'] {
  const message = error.hint === undefined ? error.message : `${error.message} (${error.hint})`;
  return { ok: false, code: error.code, message: message.slice(0, MAX_ERROR_CHARS), retryable: error.retryable };
}
