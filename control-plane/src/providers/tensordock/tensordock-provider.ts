import type { Offer } from '@dumont/shared/model/offer.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { JsonClient, type JsonAnswer, type JsonRequest } from '../http/json-client.ts';
import type { PaceRule } from '../http/request-pace.ts';
import type { OrderQueue } from '../order-queue.ts';
import type { CreateOutcome, CreateRequest, Provider, ProviderMachine, ProviderRef } from '../provider.ts';
import { labelOf, markOf, offerMark, toMachine } from './machine.ts';
import { forwardsFor, orderBody } from './order-body.ts';
import { offersOf, parseOfferId, shapeOn, TENSORDOCK_PROVIDER_NAME } from './tensordock-offers.ts';
import { errorIn, readHostNode, readHostNodes, readInstance, readInstances, type TensorDockInstance } from './wire.ts';

const TENSORDOCK_URL = 'https://dashboard.tensordock.com/api/v2';

/** Documented: 100 requests a minute for an organisation; a few are left for people. */
const DOCUMENTED_LIMIT: PaceRule = { calls: 90, perMs: 60_000 };

export interface TensorDockProviderOptions {
  /** The token, not the id of the authorization. */
  readonly apiKey: string;
  /** Base URL; absent: TensorDock's. */
  readonly url?: string;
  /** An OpenSSH public key: TensorDock starts no Linux machine without one. */
  readonly sshPublicKey: string;
  /** At least 100, which is what TensorDock rents out. */
  readonly diskGb: number;
  readonly limit?: PaceRule;
  /** TensorDock cannot be told that two orders are one: whoever orders in this process does it through the same queue. */
  readonly orders: OrderQueue;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Words of a host that has no room, which come with whatever status. */
const HOST_IS_FULL = /unavailable|not available|no longer available|insufficient (?:resources|capacity)/i;
const NO_SUCH_MACHINE = /not found|already (?:terminated|deleted)|does not exist/i;
/** TensorDock's ids are UUIDs; nothing else is put into a path. */
const ID = /^[0-9A-Za-z][0-9A-Za-z-]{7,63}$/;

/**
 * GPU machines of TensorDock by its API v2. It is thinly documented: replies are read in each of the shapes that were
 * seen, and what nobody has seen work (spot prices, machines without a GPU, addresses of their own) is neither offered nor
 * ordered. It has no idempotence: the account is looked through for the label before each order.
 */
export class TensorDockProvider implements Provider {
  readonly name = TENSORDOCK_PROVIDER_NAME;
  readonly #options: TensorDockProviderOptions;
  readonly #client: JsonClient<'all'>;

  constructor(options: TensorDockProviderOptions) {
    const { apiKey, url = TENSORDOCK_URL, limit = DOCUMENTED_LIMIT, clock, random } = options;
    this.#options = options;
    this.#client = new JsonClient({
      name: 'TensorDock',
      baseUrl: url,
      headers: { authorization: `Bearer ${apiKey}`, accept: 'application/json' },
      secrets: [apiKey],
      limits: { all: limit },
      clock,
      random,
    });
  }

  async searchOffers({ signal }: { readonly signal: AbortSignal }): Promise<readonly Offer[]> {
    const answer = await this.#get('/hostnodes?status=available', 'searching offers', signal);
    const taken = new Set((await this.#instances(signal)).map(markOf));
    return readHostNodes(answer.body)
      .flatMap((node) => offersOf(node, this.#options.diskGb))
      .filter(({ offerId }) => !taken.has(offerMark(offerId)));
  }

  create(request: CreateRequest, { signal }: { readonly signal: AbortSignal }): Promise<CreateOutcome> {
    return this.#options.orders.run(() => this.#order(request, signal));
  }

  async show(ref: ProviderRef, { signal }: { readonly signal: AbortSignal }): Promise<ProviderMachine | null> {
    signal.throwIfAborted();
    if (!ID.test(ref)) return null;
    const answer = await this.#send({ method: 'GET', path: `/instances/${ref}`, doing: `showing ${ref}` }, signal);
    const error = errorOf(answer);
    if (answer.status === 404 || (error !== null && NO_SUCH_MACHINE.test(error))) return null;
    if (error !== null) throw refusal(`showing ${ref}`, error);
    const instance = readInstance(answer.body);
    if (instance === null) throw senseless(`showing ${ref}`);
    return toMachine(instance);
  }

  async list({ signal }: { readonly signal: AbortSignal }): Promise<readonly ProviderMachine[]> {
    return (await this.#instances(signal)).map(toMachine).filter((machine) => machine !== null);
  }

  async destroy(ref: ProviderRef, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    if (!ID.test(ref)) return;
    const answer = await this.#send(
      { method: 'DELETE', path: `/instances/${ref}`, doing: `destroying ${ref}` },
      signal,
    );
    const error = errorOf(answer);
    if (answer.status === 404 || (error !== null && NO_SUCH_MACHINE.test(error))) return;
    if (error !== null) throw refusal(`destroying ${ref}`, error);
    this.#options.log.info({ event: 'tensordock.destroy', ref }, 'asked for the end of a machine');
  }

  async #order(request: CreateRequest, signal: AbortSignal): Promise<CreateOutcome> {
    const { offer, label, ports = [] } = request;
    const place = parseOfferId(offer.offerId);
    if (place === null || offer.gpuCount === 0)
      return { kind: 'refused', reason: 'TensorDock rents a GPU, or nothing' };
    if (offer.kind === 'spot') return { kind: 'refused', reason: "TensorDock's API v2 knows no spot price" };
    const held = (await this.#instances(signal)).filter((instance) => toMachine(instance) !== null);
    const existing = held.find((instance) => labelOf(instance) === label);
    if (existing !== undefined) return { kind: 'created', ref: existing.id };
    if (held.some((instance) => markOf(instance) === offerMark(offer.offerId))) return { kind: 'offer-gone' };

    const node = await this.#node(place.nodeId, signal);
    const hasGpu = node?.available_resources.gpus.some(
      ({ v0Name, availableCount }) => v0Name === place.v0Name && availableCount >= 1,
    );
    const shape = node === null ? null : shapeOn(node, this.#options.diskGb);
    const forwards = node === null ? null : forwardsFor(node, ports);
    if (hasGpu !== true || shape === null || forwards === null) return { kind: 'offer-gone' };
    const { sshPublicKey } = this.#options;
    return this.#place(orderBody(request, { ...place, shape, forwards, sshPublicKey }), label, signal);
  }

  async #place(body: object, label: string, signal: AbortSignal): Promise<CreateOutcome> {
    const order = { method: 'POST', path: '/instances', body, doing: `ordering ${label}`, repeatable: false } as const;
    const answer = await this.#send(order, signal);
    const error = errorOf(answer);
    if (error !== null) {
      const balance = /need at least/i.test(error) ? 'the balance is too low: ' : '';
      return HOST_IS_FULL.test(error) ? { kind: 'offer-gone' } : { kind: 'refused', reason: `${balance}${error}` };
    }
    const created = readInstance(answer.body);
    if (created === null) throw senseless(`ordering ${label}`);
    this.#options.log.info({ event: 'tensordock.created', ref: created.id, label }, 'machine created');
    return { kind: 'created', ref: created.id };
  }

  async #node(nodeId: string, signal: AbortSignal) {
    const doing = `looking at host ${nodeId}`;
    const answer = await this.#send({ method: 'GET', path: `/hostnodes/${nodeId}`, doing }, signal);
    return errorOf(answer) === null ? readHostNode(answer.body) : null;
  }

  async #instances(signal: AbortSignal): Promise<readonly TensorDockInstance[]> {
    const doing = 'listing machines';
    const instances = readInstances((await this.#get('/instances', doing, signal)).body);
    if (instances === null) throw senseless(doing);
    return instances;
  }

  async #get(path: string, doing: string, signal: AbortSignal): Promise<JsonAnswer> {
    const answer = await this.#send({ method: 'GET', path, doing }, signal);
    const error = errorOf(answer);
    if (error !== null) throw refusal(doing, error);
    return answer;
  }

  #send(
    request: Omit<JsonRequest<'all'>, 'endpoint' | 'repeatable'> & { readonly repeatable?: boolean },
    signal: AbortSignal,
  ): Promise<JsonAnswer> {
    return this.#client.send({ repeatable: true, ...request, endpoint: 'all' }, { signal });
  }
}

/** An error is one with whatever status. */
function errorOf({ status, body, quoted }: JsonAnswer): string | null {
  return errorIn(body) ?? (status >= 400 ? `${status} ${quoted}` : null);
}

function refusal(doing: string, error: string): DumontError {
  return new DumontError('PROVIDER', `${doing} at TensorDock: ${error}`);
}

function senseless(doing: string): DumontError {
  return new DumontError('PROVIDER', `${doing} at TensorDock: the reply makes no sense`);
}
