import { request, type IncomingMessage } from 'node:http';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { type BackoffPolicy, backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';

/** Google's metadata server, at the same address on every machine of theirs; by address, so that no resolver is asked. */
export const GCE_METADATA_ADDRESS = '169.254.169.254';
const PREEMPTED_PATH = '/computeMetadata/v1/instance/preempted';
/** Google answers within milliseconds; elsewhere nothing does, or somebody who does not name the flavour. */
const PROBE_TIMEOUT_MS = 2_000;
/** The server holds a request at most this long, so that a dead connection is noticed. */
const HOLD_SECONDS = 60;
const HOLD_MARGIN_MS = 10_000;
const RETRY: BackoffPolicy = { baseMs: 500, capMs: 10_000 };
/** The answer is one word. */
const MAX_ANSWER_BYTES = 1_024;

export interface PreemptionWatchOptions {
  /** Host, or host:port, of the metadata server. */
  readonly metadataHost: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Called once, when Google takes the machine back. Must not throw. */
  readonly onPreempted: () => void;
}

/**
 * Waits for Google to take the machine back. On a machine that is not Google's it finds out at the start and does no more.
 * Source: cloud.google.com/compute/docs/instances/create-use-preemptible, "Detecting if a VM was preempted".
 */
export class PreemptionWatch implements AsyncDisposable {
  readonly #options: PreemptionWatchOptions;
  readonly #stopping = new AbortController();
  #watching: Promise<void> = Promise.resolve();

  constructor(options: PreemptionWatchOptions) {
    this.#options = options;
  }

  /** Call once. */
  start(): void {
    this.#watching = this.#watch();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new DumontError('ABORTED', 'the agent stops'));
    await this.#watching;
  }

  async #watch(): Promise<void> {
    const { clock, random, log, onPreempted, metadataHost } = this.#options;
    const { signal } = this.#stopping;
    let answer = await this.#ask('', PROBE_TIMEOUT_MS).catch(() => null);
    if (answer === null) {
      log.debug({ event: 'no-metadata-server', metadataHost }, 'no metadata server: nobody tells of preemptions');
      return;
    }
    log.info({ event: 'preemption-watched', metadataHost }, 'the metadata server will tell of a preemption');
    let failures = 0;
    while (!signal.aborted) {
      if (answer.isPreempted) {
        onPreempted();
        return;
      }
      try {
        const query = `?wait_for_change=true&timeout_sec=${HOLD_SECONDS}&last_etag=${encodeURIComponent(answer.etag)}`;
        answer = await this.#ask(query, HOLD_SECONDS * 1_000 + HOLD_MARGIN_MS);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (failures === 0) log.warn({ event: 'metadata-failed', err: error }, 'the metadata server does not answer');
        await clock.sleep(backoffMs(failures, RETRY, random), signal).catch(() => {});
        failures += 1;
      }
    }
  }

  /** @throws {DumontError} UNAVAILABLE when it does not answer as Google's would */
  async #ask(query: string, withinMs: number): Promise<{ readonly isPreempted: boolean; readonly etag: string }> {
    using deadline = new Deadline(this.#options.clock, withinMs, this.#stopping.signal);
    const answer = await get(`http://${this.#options.metadataHost}${PREEMPTED_PATH}${query}`, deadline.signal);
    const { etag, 'metadata-flavor': flavour } = answer.headers;
    if (answer.statusCode !== 200 || flavour !== 'Google') {
      answer.destroy();
      throw new DumontError('UNAVAILABLE', `the metadata server answers ${answer.statusCode}`);
    }
    const isPreempted = (await readShort(answer)).trim().toUpperCase() === 'TRUE';
    return { isPreempted, etag: etag ?? '0' };
  }
}

function get(url: string, signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // Without the header the server refuses: a page of a browser on the machine cannot ask it.
    const outgoing = request(url, { headers: { 'Metadata-Flavor': 'Google' }, agent: false, signal });
    outgoing.once('response', resolve);
    outgoing.once('error', (error) => reject(toDumontError(error, 'UNAVAILABLE', 'the metadata server')));
    outgoing.end();
  });
}

async function readShort(answer: IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const part of answer) {
      text += (part as Buffer).toString('latin1');
      if (text.length > MAX_ANSWER_BYTES) break;
    }
  } catch (error) {
    throw toDumontError(error, 'UNAVAILABLE', 'the metadata server');
  }
  return text;
}
