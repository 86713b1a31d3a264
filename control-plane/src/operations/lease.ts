import type { OperationId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Database } from '../store/database.ts';
import { renewLease } from '../store/operations.ts';

export interface LeaseOptions {
  readonly db: Database;
  readonly clock: Clock;
  readonly operationId: OperationId;
  readonly owner: string;
  readonly leaseMs: number;
  /** Monotonic time just before the claim was asked for: the lease cannot have begun earlier. */
  readonly claimedMonotonicMs: number;
  /** Called once, when the operation is, or may by now be, another process's. */
  readonly onLost: (reason: string) => void;
}

/**
 * Keeps the lease of one claimed operation alive until disposed: renews it three times per term. It is lost when the
 * database says so, and also when a whole term passed without an answer from the database.
 */
export class Lease implements Disposable {
  readonly #options: LeaseOptions;
  readonly #cancelTimer: () => void;
  #deadlineMonotonicMs: number;
  #isRenewing = false;
  #isClosed = false;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#deadlineMonotonicMs = options.claimedMonotonicMs + options.leaseMs;
    this.#cancelTimer = options.clock.every(options.leaseMs / 3, () => void this.#tick());
  }

  /** Never rejects. */
  async #tick(): Promise<void> {
    if (this.#isRenewing) {
      this.#loseWhenOverdue();
      return;
    }
    this.#isRenewing = true;
    const { db, clock, operationId, owner, leaseMs } = this.#options;
    const askedMonotonicMs = clock.monotonicMs();
    try {
      // A process that was frozen past its term asks first: its lease is still good when nobody took the operation.
      const isOurs = await renewLease(db, operationId, { owner, untilMs: clock.nowMs() + leaseMs });
      if (isOurs) this.#deadlineMonotonicMs = askedMonotonicMs + leaseMs;
      else this.#lose('another process took the operation over');
    } catch {
      // The next tick asks again; what counts is how long there was no answer.
      this.#loseWhenOverdue();
    } finally {
      this.#isRenewing = false;
    }
  }

  #loseWhenOverdue(): void {
    if (this.#options.clock.monotonicMs() < this.#deadlineMonotonicMs) return;
    this.#lose('the lease could not be renewed in time');
  }

  #lose(reason: string): void {
    if (this.#isClosed) return;
    this[Symbol.dispose]();
    this.#options.onLost(reason);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#cancelTimer();
  }
}
