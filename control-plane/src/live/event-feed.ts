import type { EventView } from '@dumont/shared/api/views.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { EventSource } from '../http/services.ts';
import type { Database } from '../store/database.ts';
import { lastEventId, listEvents } from '../store/events.ts';

/** One read of a reader that lags; bounds memory and keeps the embedded database free for others in between. */
const MAX_BATCH = 200;

/**
 * The events table as live streams. Readers tail it by id, so nothing is lost or told twice whoever writes: `wake()`
 * makes events of this process visible at once, a poll finds those of other replicas. The poll runs only while
 * somebody reads. Disposing ends every stream normally.
 */
export class EventFeed implements EventSource, AsyncDisposable {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #pollMs: number;
  readonly #pendingReads = new Set<Promise<unknown>>();
  readonly #waiters = new Set<() => void>();
  /** Grows with every hint of news: a reader that read before it must read again before it sleeps. */
  #generation = 0;
  #newestId = 0;
  #readerCount = 0;
  #stopPolling: (() => void) | undefined;
  #isPolling = false;
  #closed = false;

  constructor(options: { readonly db: Database; readonly clock: Clock; readonly pollMs?: number }) {
    this.#db = options.db;
    this.#clock = options.clock;
    this.#pollMs = options.pollMs ?? 1_000;
  }

  /** Call after the commit of a transaction that appended events. Cheap, never throws. */
  wake(): void {
    this.#generation += 1;
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const resume of waiters) resume();
  }

  async *stream(options: {
    readonly after: number;
    readonly workspaceId?: WorkspaceId | undefined;
    readonly signal: AbortSignal;
  }): AsyncIterable<EventView> {
    const { signal, workspaceId } = options;
    const isOver = () => signal.aborted || this.#closed;
    this.#addReader();
    try {
      let cursor = options.after;
      while (!isOver()) {
        const generation = this.#generation;
        const batch = await this.#track(this.#readBatch(cursor, workspaceId));
        for (const event of batch.events) {
          if (isOver()) return;
          yield event;
        }
        cursor = batch.cursor;
        if (batch.events.length < MAX_BATCH) await this.#nextNews(generation, signal);
      }
    } finally {
      this.#removeReader();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#stopPolling?.();
    this.#stopPolling = undefined;
    this.wake();
    await Promise.allSettled(this.#pendingReads);
  }

  /** The next events and from where to go on: past other workspaces' events too, which are not read again. */
  async #readBatch(after: number, workspaceId: WorkspaceId | undefined) {
    // Asked before the rows: an event that appears in between must not be skipped.
    const newestId = workspaceId === undefined ? after : await lastEventId(this.#db);
    const events = await listEvents(this.#db, {
      after,
      limit: MAX_BATCH,
      ...(workspaceId === undefined ? {} : { workspaceId }),
    });
    const lastReadId = events.at(-1)?.eventId ?? after;
    return { events, cursor: events.length < MAX_BATCH ? Math.max(lastReadId, newestId) : lastReadId };
  }

  /** Resolves when there may be events newer than those of `generation`, or the stream is over. */
  #nextNews(generation: number, signal: AbortSignal): Promise<void> {
    if (generation !== this.#generation || signal.aborted || this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const resume = () => {
        this.#waiters.delete(resume);
        signal.removeEventListener('abort', resume);
        resolve();
      };
      this.#waiters.add(resume);
      signal.addEventListener('abort', resume, { once: true });
    });
  }

  #addReader(): void {
    this.#readerCount += 1;
    if (this.#closed) return;
    this.#stopPolling ??= this.#clock.every(this.#pollMs, () => {
      if (!this.#isPolling) void this.#track(this.#poll());
    });
  }

  #removeReader(): void {
    this.#readerCount -= 1;
    if (this.#readerCount > 0) return;
    this.#stopPolling?.();
    this.#stopPolling = undefined;
  }

  async #poll(): Promise<void> {
    this.#isPolling = true;
    try {
      const newestId = await lastEventId(this.#db);
      if (newestId === this.#newestId) return;
      this.#newestId = newestId;
      this.wake();
    } catch {
      // The readers meet the same failure on their own reads and report it to whoever reads.
      this.wake();
    } finally {
      this.#isPolling = false;
    }
  }

  async #track<Result>(work: Promise<Result>): Promise<Result> {
    this.#pendingReads.add(work);
    try {
      return await work;
    } finally {
      this.#pendingReads.delete(work);
    }
  }
}
