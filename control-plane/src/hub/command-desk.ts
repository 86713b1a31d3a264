import type { CommandId, InstanceId } from '@dumont/shared/model/ids.ts';
import type {
  Action,
  ActionResult,
  Command,
  CommandAck,
  CommandProgress,
  CommandResult,
} from '@dumont/shared/protocol/command.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

export interface RunOptions {
  /** Names the work for ever: the same id again gives the first outcome again. */
  readonly commandId: CommandId;
  /** For everything, waiting for the agent to connect included, ms. */
  readonly timeoutMs: number;
  /** At most twice a second; synchronous, must not throw. */
  readonly onProgress?: (progress: CommandProgress) => void;
  readonly signal: AbortSignal;
}

/**
 * Commands on their way: each is delivered whenever its instance has a session, again after every reconnect, until its
 * result, its deadline or its abort. Knows no sockets; the hub delivers.
 */
export class CommandDesk {
  readonly #clock: Clock;
  readonly #maxPerInstance: number;
  readonly #open = new Map<InstanceId, Map<CommandId, OpenCommand>>();

  constructor(options: { readonly clock: Clock; readonly maxPerInstance: number }) {
    this.#clock = options.clock;
    this.#maxPerInstance = options.maxPerInstance;
  }

  /**
   * Opens a command and resolves with the agent's result.
   * @throws {DumontError} the agent's own code; TIMEOUT; ABORTED; CONFLICT when the id is already open; LIMIT
   */
  open(instanceId: InstanceId, action: Action, options: RunOptions): Promise<ActionResult> {
    const { commandId, signal, timeoutMs } = options;
    const siblings = this.#open.get(instanceId) ?? new Map<CommandId, OpenCommand>();
    const refusal = this.#whyNot(instanceId, siblings, options);
    if (refusal !== null) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        settle();
        reject(aborted(`command ${action.name} to ${instanceId}`, signal.reason));
      };
      const cancelTimeout = this.#clock.after(timeoutMs, () => {
        settle();
        reject(timedOut(instanceId, open, timeoutMs));
      });
      const settle = () => {
        cancelTimeout();
        signal.removeEventListener('abort', onAbort);
        siblings.delete(commandId);
        if (siblings.size === 0 && this.#open.get(instanceId) === siblings) this.#open.delete(instanceId);
      };
      const open: OpenCommand = {
        command: { kind: 'command', commandId, action },
        stage: 'waiting',
        onProgress: options.onProgress,
        resolve: (result) => {
          settle();
          resolve(result);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      signal.addEventListener('abort', onAbort, { once: true });
      siblings.set(commandId, open);
      this.#open.set(instanceId, siblings);
    });
  }

  /** Everything a freshly connected instance must be told, oldest first. The caller sends all of it. */
  deliveries(instanceId: InstanceId): readonly Command[] {
    const open = [...(this.#open.get(instanceId)?.values() ?? [])];
    for (const each of open) if (each.stage === 'waiting') each.stage = 'sent';
    return open.map((each) => each.command);
  }

  /** One fresh command for the caller to send; null when it has been sent before or is not open. */
  delivery(instanceId: InstanceId, commandId: CommandId): Command | null {
    const open = this.#open.get(instanceId)?.get(commandId);
    if (open === undefined || open.stage !== 'waiting') return null;
    open.stage = 'sent';
    return open.command;
  }

  /** Books what the agent says of a command. False for a command that is not open (any more): a late answer. */
  answer(instanceId: InstanceId, message: CommandAck | CommandProgress | CommandResult): boolean {
    const open = this.#open.get(instanceId)?.get(message.commandId);
    if (open === undefined) return false;
    if (message.kind === 'command-result') {
      this.#conclude(instanceId, open, message);
      return true;
    }
    open.stage = 'acknowledged';
    if (message.kind === 'command-progress') open.onProgress?.(message);
    return true;
  }

  /** Rejects every open command of the instance. */
  rejectAll(instanceId: InstanceId, error: DumontError): void {
    for (const open of this.#open.get(instanceId)?.values() ?? []) open.reject(error);
  }

  /** Rejects everything: the hub closes. */
  abortAll(): void {
    for (const instanceId of this.#open.keys()) {
      this.rejectAll(instanceId, aborted(`commands to ${instanceId}`, 'the agent hub closes'));
    }
  }

  #whyNot(
    instanceId: InstanceId,
    siblings: ReadonlyMap<CommandId, OpenCommand>,
    options: RunOptions,
  ): DumontError | null {
    if (options.signal.aborted) return aborted(`command to ${instanceId}`, options.signal.reason);
    if (siblings.has(options.commandId)) {
      return new DumontError('CONFLICT', `command ${options.commandId} to ${instanceId} is already under way`);
    }
    if (siblings.size < this.#maxPerInstance) return null;
    return new DumontError('LIMIT', `${instanceId} has ${siblings.size} commands under way, the limit`, {
      retryable: true,
    });
  }

  #conclude(instanceId: InstanceId, open: OpenCommand, message: CommandResult): void {
    const { outcome } = message;
    const asked = open.command.action.name;
    if (!outcome.ok) {
      open.reject(
        new DumontError(outcome.code, `${asked} on ${instanceId}: ${outcome.message}`, {
          retryable: outcome.retryable,
        }),
      );
    } else if (outcome.result.name === asked) {
      open.resolve(outcome.result);
    } else {
      const text = `${instanceId} answered ${outcome.result.name} to a command ${asked}`;
      open.reject(new DumontError('PROTOCOL', text, { field: 'outcome.result.name' }));
    }
  }
}

interface OpenCommand {
  readonly command: Command;
  stage: 'waiting' | 'sent' | 'acknowledged';
  readonly onProgress: ((progress: CommandProgress) => void) | undefined;
  readonly resolve: (result: ActionResult) => void;
  readonly reject: (error: DumontError) => void;
}

const STAGE_TEXT = {
  waiting: 'the agent was not connected',
  sent: 'sent, but never acknowledged',
  acknowledged: 'acknowledged, but not finished',
} as const;

function timedOut(instanceId: InstanceId, open: OpenCommand, timeoutMs: number): DumontError {
  const what = `${open.command.action.name} on ${instanceId} had no result within ${timeoutMs} ms`;
  return new DumontError('TIMEOUT', `${what}: ${STAGE_TEXT[open.stage]}`, { retryable: true });
}

function aborted(what: string, reason: unknown): DumontError {
  return new DumontError('ABORTED', `${what} given up`, { cause: reason, retryable: true });
}
