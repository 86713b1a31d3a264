import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/** Callers who wait for an instance to connect. Bounded by the operations that wait. */
export class ConnectionWaiters {
  readonly #waiters = new Map<InstanceId, Set<Waiter>>();

  /** @throws {DumontError} ABORTED by the signal or by {@link abortAll} */
  wait(instanceId: InstanceId, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(aborted(instanceId, signal.reason));
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(instanceId) ?? new Set();
      const settle = () => {
        signal.removeEventListener('abort', onAbort);
        waiters.delete(waiter);
        if (waiters.size === 0 && this.#waiters.get(instanceId) === waiters) this.#waiters.delete(instanceId);
      };
      const waiter: Waiter = {
        connected: () => {
          settle();
          resolve();
        },
        abort: (reason) => {
          settle();
          reject(aborted(instanceId, reason));
        },
      };
      const onAbort = () => waiter.abort(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      waiters.add(waiter);
      this.#waiters.set(instanceId, waiters);
    });
  }

  connected(instanceId: InstanceId): void {
    for (const waiter of this.#waiters.get(instanceId) ?? []) waiter.connected();
  }

  abortAll(): void {
    for (const waiters of this.#waiters.values()) {
      for (const waiter of waiters) waiter.abort('the agent hub closes');
    }
  }
}

interface Waiter {
  readonly connected: () => void;
  readonly abort: (reason: unknown) => void;
}

function aborted(instanceId: InstanceId, reason: unknown): DumontError {
  return new DumontError('ABORTED', `waiting for ${instanceId} to connect was given up`, { cause: reason });
}
