import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { describeIssues } from '@dumont/shared/util/zod-issues.ts';
import type { z } from 'zod';
import { JsonClient, type JsonAnswer, type JsonRequest } from '../http/json-client.ts';
import type { PaceRule } from '../http/request-pace.ts';
import { throttledMs, VAST_LIMITS, type VastEndpoint } from './vast-limits.ts';
import {
  accountSchema,
  askSchema,
  listAnswerSchema,
  searchAnswerSchema,
  showAnswerSchema,
  type VastAsk,
  type VastInstance,
} from './vast-schemas.ts';
import { judge, type Verdict } from './vast-verdict.ts';

export interface VastApiOptions {
  readonly apiKey: string;
  /** Origin of the service. */
  readonly baseUrl: string;
  readonly clock: Clock;
  readonly random: Random;
  /** The documented ones by default. */
  readonly limits?: Readonly<Record<VastEndpoint, PaceRule>>;
}

export interface SpotOrder {
  readonly image: string;
  readonly diskGb: number;
  readonly bidUsd: number;
  readonly label: string;
  readonly onstart: string;
  /** Variables, and `-p inner:inner` for ports. */
  readonly env: Readonly<Record<string, string>>;
}

interface Options {
  readonly signal: AbortSignal;
}

/** The server's own bound of a page of instances. */
export const LIST_PAGE = 25;

/** A thousand machines: more in one account is not what this was built for, and a list cut short would hide strangers. */
const MAX_LIST_PAGES = 40;

/** SSH by the host's own port and by the proxy; the missing letter is Vast's. */
const RUN_TYPE = 'ssh_direc ssh_proxy';

/**
 * The calls of Vast.ai's API that we make, each with its limit, validated, refusals as values where callers decide by
 * them. One object per key and process.
 * @throws {DumontError} from every method: UNAVAILABLE or LIMIT as {@link JsonClient.send} does; PROVIDER for a refusal
 *   that is no value, and for an answer that is not understood
 */
export class VastApi {
  readonly #http: JsonClient<VastEndpoint>;

  constructor({ apiKey, baseUrl, clock, random, limits }: VastApiOptions) {
    this.#http = new JsonClient({
      name: 'Vast.ai',
      baseUrl: baseUrl.replace(/\/+$/, ''),
      headers: { authorization: `Bearer ${apiKey}`, accept: 'application/json' },
      secrets: [apiKey],
      limits: limits ?? VAST_LIMITS,
      throttledMs,
      clock,
      random,
    });
  }

  /** One page of asks without the rows that are not understood, and how many rows it had with them. */
  async search(
    body: Readonly<Record<string, unknown>>,
    options: Options,
  ): Promise<{ readonly asks: readonly VastAsk[]; readonly rowCount: number }> {
    const request = { endpoint: 'search', method: 'POST', path: '/api/v0/bundles/', body } as const;
    const answer = await this.#read({ ...request, doing: 'searching offers' }, searchAnswerSchema, options);
    const asks = answer.offers.map((row) => askSchema.safeParse(row)).flatMap(({ data }) => data ?? []);
    return { asks, rowCount: answer.offers.length };
  }

  /**
   * Bids for an ask. The bid is what makes it interruptible: without one the same call rents on demand.
   * @returns also which contract was made, which may be there although the order was refused
   */
  async createSpot(
    askId: string,
    order: SpotOrder,
    options: Options,
  ): Promise<Verdict & { readonly newContract: number | null }> {
    const body = {
      client_id: 'me',
      image: order.image,
      disk: order.diskGb,
      price: order.bidUsd,
      label: order.label,
      runtype: RUN_TYPE,
      onstart: order.onstart,
      env: order.env,
      // Otherwise an order that cannot be served at once leaves a stopped machine whose disk is billed.
      cancel_unavail: true,
    };
    const path = `/api/v0/asks/${askId}/`;
    const doing = `ordering offer ${askId}`;
    const answer = await this.#http.send(
      { endpoint: 'create', method: 'PUT', path, body, doing, repeatable: false },
      options,
    );
    return judge(answer);
  }

  /** One instance; null when there is none (any more). */
  async instance(id: number, options: Options): Promise<VastInstance | null> {
    const path = `/api/v0/instances/${id}/`;
    const doing = `looking at instance ${id}`;
    const answer = await this.#http.send({ endpoint: 'show', method: 'GET', path, doing, repeatable: true }, options);
    const verdict = judge(answer);
    if (verdict.kind === 'no-instance' || answer.status === 404) return null;
    return understood(accepted(answer, doing), showAnswerSchema, doing).instances;
  }

  /** Every instance of the account. */
  async instances(options: Options): Promise<readonly VastInstance[]> {
    const found: VastInstance[] = [];
    let after = '';
    for (let page = 0; page < MAX_LIST_PAGES; page += 1) {
      const order = encodeURIComponent('[{"col":"id","dir":"asc"}]');
      const path = `/api/v1/instances/?limit=${LIST_PAGE}&order_by=${order}${after}`;
      const request = { endpoint: 'list', method: 'GET', path, doing: 'listing instances' } as const;
      const { instances, next_token: next } = await this.#read(request, listAnswerSchema, options);
      found.push(...instances);
      if (next === null || next === undefined || next === '') return found;
      after = `&after_token=${encodeURIComponent(next)}`;
    }
    throw new DumontError('LIMIT', `Vast.ai lists more than ${MAX_LIST_PAGES * LIST_PAGE} instances`);
  }

  /** Resolves when the instance is being destroyed or was not there. */
  async destroy(id: number, options: Options): Promise<void> {
    const path = `/api/v0/instances/${id}/`;
    const doing = `destroying instance ${id}`;
    const request = { endpoint: 'destroy', method: 'DELETE', path, body: {}, doing, repeatable: true } as const;
    const answer = await this.#http.send(request, options);
    if (judge(answer).kind !== 'no-instance' && answer.status !== 404) accepted(answer, doing);
  }

  /** Starts, stops or names an instance: `{ state: 'running' }`, `{ state: 'stopped' }` or `{ label }`. */
  async change(id: number, body: Readonly<Record<string, string>>, options: Options): Promise<Verdict> {
    const path = `/api/v0/instances/${id}/`;
    return this.#manage({ endpoint: 'manage', method: 'PUT', path, body, doing: `changing instance ${id}` }, options);
  }

  /** Sets the bid of an interruptible instance, dollars per hour for all of it. */
  async changeBid(id: number, bidUsd: number, options: Options): Promise<Verdict> {
    const path = `/api/v0/instances/bid_price/${id}/`;
    const body = { client_id: 'me', price: bidUsd };
    return this.#manage({ endpoint: 'bid', method: 'PUT', path, body, doing: `bidding for instance ${id}` }, options);
  }

  /** Lets the holder of a public key in. Keys that a script appends are overwritten by Vast after a while. */
  async attachSshKey(id: number, publicKey: string, options: Options): Promise<Verdict> {
    const path = `/api/v0/instances/${id}/ssh/`;
    const body = { ssh_key: publicKey };
    const doing = `attaching a key to instance ${id}`;
    return this.#manage({ endpoint: 'ssh-key', method: 'POST', path, body, doing }, options);
  }

  /** The account behind the key; money in dollars. */
  async account(options: Options): Promise<z.infer<typeof accountSchema>> {
    const path = '/api/v0/users/current/';
    return this.#read(
      { endpoint: 'account', method: 'GET', path, doing: 'reading the account' },
      accountSchema,
      options,
    );
  }

  async #manage(request: Omit<JsonRequest<VastEndpoint>, 'repeatable'>, options: Options): Promise<Verdict> {
    return judge(await this.#http.send({ ...request, repeatable: true }, options));
  }

  async #read<Schema extends z.ZodType>(
    request: Omit<JsonRequest<VastEndpoint>, 'repeatable'>,
    schema: Schema,
    options: Options,
  ): Promise<z.infer<Schema>> {
    const answer = await this.#http.send({ ...request, repeatable: true }, options);
    return understood(accepted(answer, request.doing), schema, request.doing);
  }
}

function accepted(answer: JsonAnswer, doing: string): JsonAnswer {
  const verdict = judge(answer);
  switch (verdict.kind) {
    case 'done':
      return answer;
    case 'key-refused':
      throw new DumontError('PROVIDER', `${doing} at Vast.ai: the key was refused (${verdict.reason})`, {
        hint: 'Set DUMONT_VAST_API_KEY to a key of the account, with the permissions named in docs/PROVIDERS.md.',
      });
    case 'refused':
      throw new DumontError('PROVIDER', `${doing} at Vast.ai: ${verdict.reason}`);
    case 'ask-gone':
    case 'no-instance':
    case 'queued':
      throw new DumontError('PROVIDER', `${doing} at Vast.ai: ${answer.status} ${answer.quoted}`);
  }
}

function understood<Schema extends z.ZodType>(answer: JsonAnswer, schema: Schema, doing: string): z.infer<Schema> {
  const parsed = schema.safeParse(answer.body);
  if (parsed.success) return parsed.data;
  const { summary } = describeIssues(parsed.error);
  throw new DumontError('PROVIDER', `${doing} at Vast.ai was answered with something else than expected: ${summary}`);
}
