import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Contract, drawInstanceKey, type ContractParts, type Order } from './contract.ts';
import type { ORDER_FAULTS } from './faults.ts';
import { Machine } from './machine.ts';
import { diskHourOf, type Ask, type Market } from './market.ts';

export type OrderFault = (typeof ORDER_FAULTS)[number];

/** What an order comes to, and whether the client hears of it. */
export interface OrderResult {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly isHeard: boolean;
}

export interface SshKey {
  readonly id: number;
  readonly user_id: number;
  readonly public_key: string;
  readonly created_at: number;
  readonly deleted_at: null;
}

export interface AccountOptions extends Omit<ContractParts, 'machine' | 'accountKeys'> {
  readonly market: Market;
  readonly clock: Clock;
  /** Machines live in here. */
  readonly folder: string;
}

const FIRST_CONTRACT = 31_600_001;
const CREDIT_USD = 25;
const [LEAST_PRICE, GREATEST_PRICE] = [0.001, 128];
const [LEAST_DISK, LONGEST_LABEL, LONGEST_ONSTART] = [8, 256, 4_048];

const START_FAILS: ReadonlySet<string> = new Set(['no-start', 'no-ssh']);

/** The customer: what is rented, with which keys, and what money is left. */
export class Account {
  readonly contracts = new Map<number, Contract>();
  readonly sshKeys: SshKey[] = [];
  /** Every contract that was ever made, by label: duplicates show. */
  readonly history: { readonly id: number; readonly label: string | null; readonly isBid: boolean }[] = [];
  readonly orderFaults: OrderFault[] = [];
  visibilityLagS = 0;
  readonly #options: AccountOptions;
  #nextContract = FIRST_CONTRACT;
  #nextKey = 1;
  #credit = CREDIT_USD;
  #meteredMs: number;

  constructor(options: AccountOptions) {
    this.#options = options;
    this.#meteredMs = options.clock.nowMs();
  }

  /** Dollars left, everything up to now paid. */
  get credit(): number {
    this.#meter();
    return this.#credit;
  }

  set credit(usd: number) {
    this.#meter();
    this.#credit = usd;
    this.#stopIfPoor();
  }

  /** Contracts that are old enough to be seen. */
  get visible(): readonly Contract[] {
    const sinceS = this.#options.clock.nowMs() / 1_000 - this.visibilityLagS;
    return [...this.contracts.values()].filter(({ startedAtS }) => startedAtS <= sinceS);
  }

  /** Orders a machine, as the request's fields ask. */
  order(askId: number, body: Readonly<Record<string, unknown>>): OrderResult {
    const fault = this.orderFaults.shift();
    const ask = this.#options.market.asks.get(askId);
    const order = orderOf(body);
    if (typeof order === 'string') return refusal(400, 'invalid_args', `error 400/3467: Invalid args: ${order}`);
    if (fault === 'no-credit' || this.credit <= 0) {
      return refusal(400, 'insufficient_credit', 'Insufficient credits');
    }
    if (ask === undefined || ask.isTaken || ask.behaviour.kind === 'vanish-404') {
      if (ask !== undefined) ask.isTaken = true;
      const msg = `error 404/3603: no_such_ask Instance type by id ${askId} is not available.`;
      return refusal(404, 'invalid_args', msg, { ask_id: askId });
    }
    if (ask.behaviour.kind === 'vanish-410') {
      ask.isTaken = true;
      const msg = `error 410/3907: no_such_ask Instance type ${askId} is no longer available.`;
      return refusal(410, 'no_such_ask', msg, { ask_id: askId });
    }
    const isTooLow = fault === 'bid-too-low' || (order.price !== null && order.price < ask.minBid);
    if (isTooLow && fault !== 'bid-too-low' && body['cancel_unavail'] === true) {
      return refusal(400, 'invalid_price', 'error 400/3470: the bid is below the minimum');
    }
    const contract = this.#make(ask, fault === 'on-demand' ? { ...order, price: null } : order);
    if (isTooLow) {
      contract.leaveStopped();
      return refusal(400, 'invalid_price', 'the bid is too low', { new_contract: contract.id });
    }
    contract.boot();
    const reply = { success: true, new_contract: contract.id, instance_api_key: drawInstanceKey() };
    return { status: 200, body: reply, isHeard: fault !== 'lost-reply' };
  }

  /** Resolves when nothing is left of it. */
  async destroy(contract: Contract): Promise<void> {
    this.#meter();
    this.contracts.delete(contract.id);
    await contract.destroy();
    contract.ask.isTaken = false;
  }

  addKey(text: string): SshKey {
    const created = this.#options.clock.nowMs() / 1_000;
    const key = { id: this.#nextKey++, user_id: 1, public_key: text, created_at: created, deleted_at: null };
    this.sshKeys.push(key);
    return key;
  }

  #make(ask: Ask, order: Order): Contract {
    const { market: _market, folder, ...parts } = this.#options;
    const id = this.#nextContract++;
    const ref = `vast-${id}-${randomUUID().slice(0, 8)}`;
    const ports = Object.keys(order.env).flatMap((name) => /^-p (\d+):\d+$/.exec(name)?.[1] ?? []);
    const variables = Object.entries(order.env).filter(([name]) => !name.startsWith('-'));
    const machine = new Machine({
      ref,
      folder: join(folder, ref),
      environment: { ...containerVariables(id, ask), ...Object.fromEntries(variables) },
      onstart: START_FAILS.has(ask.behaviour.kind) ? 'exit 1' : order.onstart,
      ports: ports.map(Number),
    });
    const accountKeys = this.sshKeys.map((key) => key.public_key);
    const contract = new Contract(id, { ask, order }, { ...parts, machine, accountKeys: () => accountKeys });
    ask.isTaken = true;
    this.contracts.set(id, contract);
    this.history.push({ id, label: order.label, isBid: contract.isBid });
    return contract;
  }

  /** Per second: storage always, the GPU while it runs. */
  #meter(): void {
    const nowMs = this.#options.clock.nowMs();
    const hours = (nowMs - this.#meteredMs) / 3_600_000;
    this.#meteredMs = nowMs;
    for (const contract of this.contracts.values()) {
      const gpu = contract.isRunning ? contract.gpuHour : 0;
      this.#credit -= hours * (gpu + diskHourOf(contract.ask.seed, contract.order.disk));
    }
    this.#stopIfPoor();
  }

  #stopIfPoor(): void {
    if (this.#credit > 0) return;
    for (const contract of this.contracts.values()) if (contract.intended === 'running') contract.stop();
  }
}

/** The order of a request; what is wrong with it otherwise. */
function orderOf(body: Readonly<Record<string, unknown>>): Order | string {
  const { image, disk = 10, price = null, label = null, runtype = 'ssh', onstart = '', env = {} } = body;
  if (typeof image !== 'string' || image === '') return 'image is required';
  if (typeof disk !== 'number' || disk < LEAST_DISK) return `disk must be at least ${LEAST_DISK}`;
  if (price !== null && (typeof price !== 'number' || price < LEAST_PRICE || price > GREATEST_PRICE)) return 'price';
  if (label !== null && (typeof label !== 'string' || label.length > LONGEST_LABEL)) return 'label';
  if (onstart !== null && (typeof onstart !== 'string' || onstart.length > LONGEST_ONSTART))
    return 'onstart is too long';
  // As text it is said to have no effect.
  const variables = typeof env === 'object' && env !== null ? (env as Record<string, string>) : {};
  return { image, disk, price, label, runtype: String(runtype), onstart: onstart ?? '', env: variables };
}

function refusal(
  status: number,
  error: string,
  msg: string,
  more: Readonly<Record<string, unknown>> = {},
): OrderResult {
  return { status, body: { success: false, error, msg, ...more }, isHeard: true };
}

/** What Vast puts into every container. */
function containerVariables(id: number, { seed }: Ask): Record<string, string> {
  return {
    CONTAINER_ID: String(id),
    VAST_CONTAINERLABEL: `C.${id}`,
    CONTAINER_API_KEY: drawInstanceKey(),
    PUBLIC_IPADDR: '127.0.0.1',
    GPU_COUNT: String(seed.num_gpus),
  };
}
