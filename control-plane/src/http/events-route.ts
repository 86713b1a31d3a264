import type { RequestHandler, Response } from 'express';
import { once } from 'node:events';
import { z } from 'zod';
import type { EventView } from '@dumont/shared/api/views.ts';
import { assert } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { describeIssues } from '@dumont/shared/util/zod-issues.ts';
import { lastEventId } from '../store/events.ts';
import { requireWorkspace } from './find.ts';
import { callerSignal } from './request-context.ts';
import type { ApiServices } from './services.ts';

/** Shorter than the idle limits of common proxies (30 to 60 s). */
const KEEP_ALIVE_MS = 15_000;
/** What a browser waits before it reconnects. */
const RETRY_MS = 1_000;
/** Unread bytes a client may leave in this process: some hundred events, a moment's burst. */
const MAX_UNREAD_BYTES = 262_144;
/** A client above that bound for this long is gone or stuck; it may come back and resume. */
export const STALL_MS = 10_000;
/** Each holds a socket and a reader of the events table. */
const MAX_STREAMS = 256;

const eventIdSchema = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const querySchema = z.strictObject({ after: eventIdSchema.optional(), workspace: z.string().min(1).optional() });

/**
 * Server-sent events. Starts after `Last-Event-ID`, else after `?after`, else with what happens from now on; the first
 * message carries only an id, so that a client that loses the connection early resumes without a gap.
 */
export function eventStreamHandler(services: ApiServices): RequestHandler {
  let openStreams = 0;
  return async (request, response) => {
    // A HEAD asks whether there is a stream; its answer has no body to wait for.
    if (request.method === 'HEAD') {
      response.type('text/event-stream').end();
      return;
    }
    const signal = callerSignal(response);
    const parsed = querySchema.safeParse(request.query);
    if (!parsed.success) {
      const { summary, field } = describeIssues(parsed.error);
      throw new DumontError('USAGE', `the query is not valid: ${summary}`, { field });
    }
    const { workspace } = parsed.data;
    const workspaceId = workspace === undefined ? undefined : (await requireWorkspace(services.db, workspace)).id;
    const resumeAt = resumeId(request.headers['last-event-id']) ?? parsed.data.after;
    const after = resumeAt ?? (await lastEventId(services.db));
    if (openStreams >= MAX_STREAMS) {
      throw new DumontError('UNAVAILABLE', `${MAX_STREAMS} event streams are open already`, {
        retryable: true,
        hint: 'Close some, or poll GET /api/v1/events/history.',
      });
    }
    openStreams += 1;
    try {
      const writer = new StreamWriter(response, services.clock, signal);
      using _keepAlive = writer.open(after);
      for await (const event of services.events.stream({ after, workspaceId, signal })) {
        if (!(await writer.send(event))) return;
      }
      response.end();
    } finally {
      openStreams -= 1;
    }
  };
}

/** Writes one stream, never holding more unread bytes than the bound plus one event. */
class StreamWriter {
  readonly #response: Response;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;

  constructor(response: Response, clock: Clock, signal: AbortSignal) {
    this.#response = response;
    this.#clock = clock;
    this.#signal = signal;
  }

  /** Sends the head and begins to keep the connection alive, until disposed. */
  open(after: number): Disposable {
    this.#response.writeHead(200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      // Proxies that buffer answers would hold events back.
      'X-Accel-Buffering': 'no',
    });
    this.#response.write(`retry: ${RETRY_MS}\nid: ${after}\n\n`);
    const stop = this.#clock.every(KEEP_ALIVE_MS, () => {
      if (!this.#signal.aborted && this.#response.writableLength < MAX_UNREAD_BYTES) {
        this.#response.write(': keep-alive\n\n');
      }
    });
    return { [Symbol.dispose]: stop };
  }

  /** @returns false when the client is gone, or was dropped because it does not read */
  async send(event: EventView): Promise<boolean> {
    assert(!/[\r\n]/.test(event.type), 'an event type is one line');
    this.#response.write(`id: ${event.eventId}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    if (this.#response.writableLength < MAX_UNREAD_BYTES) return !this.#signal.aborted;
    return this.#drained();
  }

  async #drained(): Promise<boolean> {
    const stalled = new AbortController();
    const cancel = this.#clock.after(STALL_MS, () => stalled.abort());
    try {
      await once(this.#response, 'drain', { signal: AbortSignal.any([stalled.signal, this.#signal]) });
      return true;
    } catch {
      this.#response.destroy();
      return false;
    } finally {
      cancel();
    }
  }
}

/** A Last-Event-ID that is none of ours counts as absent: browsers send whatever they saw last. */
function resumeId(header: string | string[] | undefined): number | undefined {
  if (typeof header !== 'string' || header === '') return undefined;
  const parsed = eventIdSchema.safeParse(header);
  return parsed.success ? parsed.data : undefined;
}
