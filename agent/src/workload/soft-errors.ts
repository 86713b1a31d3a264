import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Notice, SoftErrorSource } from '@dumont/shared/protocol/notice.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';

const MAX_MESSAGE_CHARS = 2_000;

/** Tells the control plane of what failed beside the workload: once when it begins to, for snapshots are many. */
export class SoftErrors {
  readonly #tell: (notice: Notice) => void;
  readonly #log: Logger;
  readonly #failing = new Set<SoftErrorSource>();

  constructor(tell: (notice: Notice) => void, log: Logger) {
    this.#tell = tell;
    this.#log = log;
  }

  /** What the work gave, or null where it failed. Never rejects. */
  async attempt<T>(source: SoftErrorSource, work: () => Promise<T>): Promise<T | null> {
    try {
      const result = await work();
      this.#failing.delete(source);
      return result;
    } catch (error) {
      const { message } = toDumontError(error);
      this.#log.warn({ event: 'soft-error', source, err: error }, 'it failed, and what it was for goes on');
      if (!this.#failing.has(source)) {
        this.#failing.add(source);
        this.#tell({ type: 'soft-error', source, message: message.slice(0, MAX_MESSAGE_CHARS) });
      }
      return null;
    }
  }
}
