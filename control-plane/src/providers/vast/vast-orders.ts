import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { isIP } from 'node:net';
import type { CreateOutcome, CreateRequest } from '../provider.ts';
import { orAborted } from './or-aborted.ts';
import type { SpotOrder, VastApi } from './vast-api.ts';
import { machineOf } from './vast-machine.ts';
import { usd } from './vast-offers.ts';
import type { VastInstance } from './vast-schemas.ts';

export interface VastOrderParts {
  readonly api: VastApi;
  readonly clock: Clock;
  readonly log: Logger;
  readonly image: string;
  readonly diskGb: number;
  readonly onstart: string;
  readonly isLocal?: boolean;
}

/** After an order without a clear answer: a contract may take some seconds to become visible. */
const LOOKS = 3;
const LOOK_GAP_MS = 1_500;

/**
 * Orders of interruptible machines, each label at most once. Vast knows no such thing, so orders run one after another
 * (its least pause between two is seconds anyway), and the label is looked for before each, and after each that went
 * wrong in whatever way: a refusal may have made a contract too.
 */
export class VastOrders {
  readonly #parts: VastOrderParts;
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: VastOrderParts) {
    this.#parts = parts;
  }

  /** Spec: `create` of the provider contract. */
  async place(request: CreateRequest, { signal }: { readonly signal: AbortSignal }): Promise<CreateOutcome> {
    signal.throwIfAborted();
    if (request.offer.kind !== 'spot' || request.offer.bidMicroUsdPerHour === undefined) {
      return { kind: 'refused', reason: 'only interruptible machines are rented at Vast.ai' };
    }
    requireReachable(request.agentEnvironment, this.#parts.isLocal ?? false);
    const bidUsd = usd(request.offer.bidMicroUsdPerHour);
    const before = this.#last;
    const order = orAborted(before, signal).then(() => this.#place(request, bidUsd, signal));
    // Who gave up waiting lets nobody pass those before.
    this.#last = Promise.allSettled([before, order]);
    return order;
  }

  async #place(request: CreateRequest, bidUsd: number, signal: AbortSignal): Promise<CreateOutcome> {
    const { api } = this.#parts;
    const { offer, label } = request;
    signal.throwIfAborted();
    const existing = await this.#find(label, signal);
    if (existing !== undefined && existing.is_bid !== false) return { kind: 'created', ref: String(existing.id) };
    if (existing !== undefined) return this.#keep(existing, signal);
    let verdict: Awaited<ReturnType<VastApi['createSpot']>>;
    try {
      verdict = await api.createSpot(offer.offerId, this.#orderFor(request, bidUsd), { signal });
    } catch (error) {
      // Throttled to the end: it was not carried out.
      if (isDumontError(error, 'LIMIT')) return { kind: 'refused', reason: error.message };
      if (!isDumontError(error, 'UNAVAILABLE')) throw error;
      return this.#afterSilence(label, error, signal);
    }
    const { newContract } = verdict;
    if (verdict.kind === 'done') {
      if (newContract === null) {
        const silence = new DumontError('UNAVAILABLE', `ordering offer ${offer.offerId}: no contract was named`);
        return this.#afterSilence(label, silence, signal);
      }
      return this.#keepIfBid(newContract, label, signal);
    }
    if (newContract !== null) await api.destroy(newContract, { signal });
    // Somebody with our label may have been quicker, in another process; a refused order may have left a stopped one.
    const left = await this.#find(label, signal);
    if (left !== undefined && left.id !== newContract) return this.#keep(left, signal);
    if (verdict.kind === 'ask-gone' || verdict.kind === 'no-instance') return { kind: 'offer-gone' };
    return { kind: 'refused', reason: verdict.kind === 'queued' ? 'the GPU is taken' : verdict.reason };
  }

  #orderFor({ label, agentEnvironment, ports = [] }: CreateRequest, bidUsd: number): SpotOrder {
    const { image, diskGb, onstart } = this.#parts;
    const openings = ports.map((port) => [`-p ${port}:${port}`, '1'] as const);
    return { image, diskGb, bidUsd, label, onstart, env: { ...agentEnvironment, ...Object.fromEntries(openings) } };
  }

  /** The answer was lost: the contract may be there, and must not be ordered again before that is known. */
  async #afterSilence(label: string, silence: DumontError, signal: AbortSignal): Promise<CreateOutcome> {
    for (let look = 0; look < LOOKS; look += 1) {
      await this.#parts.clock.sleep(LOOK_GAP_MS, signal);
      const found = await this.#find(label, signal);
      if (found !== undefined) return this.#keep(found, signal);
    }
    throw silence;
  }

  /** The reply does not say how it was rented, so Vast is asked. */
  async #keepIfBid(id: number, label: string, signal: AbortSignal): Promise<CreateOutcome> {
    const instance = (await this.#find(label, signal)) ?? (await this.#parts.api.instance(id, { signal }));
    // Not visible yet. It was ordered with a bid, which is what makes it interruptible.
    return instance === null ? { kind: 'created', ref: String(id) } : this.#keep(instance, signal);
  }

  /** A machine on demand, or one that was never to run, is given back: it would cost money for nothing. */
  async #keep(instance: VastInstance, signal: AbortSignal): Promise<CreateOutcome> {
    const { api, log } = this.#parts;
    const ref = String(instance.id);
    const { status } = machineOf(instance, false);
    const reason =
      instance.is_bid === false
        ? 'it was rented on demand, not by our bid'
        : status === 'interrupted' || status === 'failed'
          ? `it was never to run (${instance.actual_status ?? 'no status'})`
          : undefined;
    if (reason === undefined) return { kind: 'created', ref };
    log.warn(
      { event: 'vast.unwanted', ref, label: instance.label, reason },
      'destroying a machine we did not order so',
    );
    await api.destroy(instance.id, { signal });
    return { kind: 'refused', reason };
  }

  async #find(label: string, signal: AbortSignal): Promise<VastInstance | undefined> {
    return (await this.#parts.api.instances({ signal })).find((instance) => instance.label === label);
  }
}

/** A stranger's machine reaches neither this computer's loopback nor its folders. */
function requireReachable(environment: Readonly<Record<string, string>>, isLocal: boolean): void {
  if (isLocal) return;
  const url = environment['DUMONT_CONTROL_URL'];
  if (url !== undefined && URL.canParse(url) && isLoopback(new URL(url).hostname)) {
    throw new DumontError('USAGE', `machines of Vast.ai cannot reach the control plane at ${url}`, {
      field: 'DUMONT_PUBLIC_URL',
      hint: 'Set DUMONT_PUBLIC_URL to an address that the internet reaches.',
    });
  }
  if (environment['DUMONT_FILE_STORE_PATH'] !== undefined) {
    throw new DumontError('USAGE', 'machines of Vast.ai cannot reach a file store', {
      field: 'STORAGE_PROVIDER',
      hint: 'Keep snapshots in a bucket: STORAGE_PROVIDER=b2, r2, s3, wasabi or minio.',
    });
  }
}

/** Whether a host of a URL is this computer itself. Pure. */
export function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}
