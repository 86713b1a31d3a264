import { randomBytes } from 'node:crypto';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Machine } from './machine.ts';
import { diskHourOf, priceParts, type Ask } from './market.ts';

/** What was ordered, as the API took it. */
export interface Order {
  readonly image: string;
  readonly disk: number;
  readonly price: number | null;
  readonly label: string | null;
  readonly runtype: string;
  readonly onstart: string;
  readonly env: Readonly<Record<string, string>>;
}

type Wanted = 'running' | 'stopped';

export interface ContractParts {
  readonly clock: Clock;
  readonly machine: Machine;
  /** Keys let in besides those attached. */
  readonly accountKeys: () => readonly string[];
  /** Something failed that nobody waits for. */
  readonly onError: (error: unknown) => void;
}

/** From the outbid until its container is stopped, and until the same bid wins again, seconds. */
const OUTBID_STOP_S = 2;
const OUTBID_RESUME_S = 600;
/** A host that is gone is `unknown` for so long, then `offline`. */
const UNKNOWN_S = 90;

/** One rented machine: its states as the API shows them, in the times of the market, and the real machine behind. */
export class Contract {
  readonly id: number;
  readonly ask: Ask;
  readonly order: Order;
  readonly attachedKeys: string[] = [];
  readonly startedAtS: number;
  label: string | null;
  bid: number | null;
  actual: string | null = null;
  intended: Wanted = 'running';
  current: Wanted = 'running';
  next: Wanted = 'running';
  message: string | null = null;
  isRefusingStarts = false;
  readonly #parts: ContractParts;
  readonly #timers = new Set<() => void>();
  /** Changes of the machine, one after another. */
  #work: Promise<void> = Promise.resolve();
  #isOver = false;
  #runsSinceS: number | null = null;

  constructor(id: number, what: { readonly ask: Ask; readonly order: Order }, parts: ContractParts) {
    this.id = id;
    this.ask = what.ask;
    this.order = what.order;
    this.label = what.order.label;
    this.bid = what.order.price;
    this.#parts = parts;
    this.startedAtS = parts.clock.nowMs() / 1_000;
  }

  get isBid(): boolean {
    return this.bid !== null;
  }

  get machine(): Machine {
    return this.#parts.machine;
  }

  /** Dollars per hour while it runs. */
  get gpuHour(): number {
    return this.bid ?? this.ask.seed.dph_base;
  }

  get isRunning(): boolean {
    return this.#runsSinceS !== null;
  }

  /** The way from the order to `running`, or to where the machine's behaviour leaves it. */
  boot(): void {
    const { behaviour, seed } = this.ask;
    this.#later(2, () => (this.actual = 'created'));
    this.#later(3, () => {
      this.actual = 'loading';
      this.message = behaviour.kind === 'stuck-loading' ? 'layer 7 of 12: 38%' : 'pulling';
      if (behaviour.kind === 'pull-denied') {
        this.message = `Error response from daemon: pull access denied for ${this.order.image}`;
      }
    });
    if (behaviour.kind === 'stuck-loading' || behaviour.kind === 'pull-denied') return;
    const longer = behaviour.kind === 'slow-pull' ? behaviour.seconds : 0;
    this.#later(seed.boot_s + longer, () => (behaviour.kind === 'oci-error' ? this.#failToRun() : this.#up()));
  }

  /** A contract that never gets its GPU: what a bid too low leaves behind. */
  leaveStopped(): void {
    this.#set('stopped');
  }

  /** Asked for by its owner. */
  stop(): void {
    this.#cancelTimers();
    this.#set('stopped');
    this.#later(1, () => this.#down('exited'));
  }

  /** @returns false when the GPU is taken: the start is queued */
  start(): boolean {
    if (this.isRunning && this.intended === 'running') return true;
    if (this.ask.behaviour.kind === 'restart-unavailable' || this.isRefusingStarts) {
      this.intended = 'running';
      this.next = 'running';
      return false;
    }
    this.#cancelTimers();
    this.#set('running');
    this.actual = 'loading';
    this.#later(2, () => this.#up());
    return true;
  }

  restart(): void {
    this.#cancelTimers();
    this.#down('rebooting');
    this.#later(2, () => this.#up());
  }

  /** Somebody bids more. The contract says so at once, the container stops a little later. */
  outbid({ resumes = true }: { readonly resumes?: boolean } = {}): void {
    if (this.intended === 'stopped') return;
    this.#cancelTimers();
    this.#set('stopped');
    this.#later(OUTBID_STOP_S, () => this.#down('exited'));
    if (resumes) this.#later(OUTBID_RESUME_S, () => this.resume());
  }

  /** Our bid wins again. */
  resume(): void {
    this.#cancelTimers();
    this.#set('running');
    this.actual = 'loading';
    this.#later(2, () => this.#up());
  }

  /** The host loses its network: its machines fall silent, and the service notices later. */
  goOffline(): void {
    this.#do(() => this.machine.freeze());
    this.actual = 'unknown';
    this.#later(UNKNOWN_S, () => (this.actual = 'offline'));
  }

  comeBack(): void {
    this.#cancelTimers();
    this.#do(() => this.machine.thaw());
    this.actual = 'running';
  }

  /** Resolves when nothing is left of it. */
  async destroy(): Promise<void> {
    this.#isOver = true;
    this.#cancelTimers();
    await this.#work;
    await this.machine.destroy();
  }

  /** Lets keys in that were attached since. */
  async refreshKeys(): Promise<void> {
    if (this.isRunning) await this.machine.authorize(this.#keys());
  }

  /** As the API shows it. */
  row(host: { readonly publicAddress: string }): Readonly<Record<string, unknown>> {
    const { seed, minBid } = this.ask;
    const { clock } = this.#parts;
    const nowS = clock.nowMs() / 1_000;
    const diskHour = diskHourOf(seed, this.order.disk);
    const { n: _n, id: _id, boot_s: _boot, behaviour: _behaviour, duration_days: days, min_bid: _bid, ...facts } = seed;
    const ports = this.machine.ports;
    const isUp = this.isRunning && ports.size > 0;
    const price = priceParts(this.gpuHour, diskHour);
    return {
      ...facts,
      id: this.id,
      bundle_id: seed.id - 99,
      actual_status: this.actual,
      intended_status: this.intended,
      cur_state: this.current,
      next_state: this.next,
      status_msg: this.message,
      label: this.label,
      image_uuid: this.order.image,
      image_args: [],
      image_runtype: this.order.runtype,
      onstart: this.order.onstart,
      extra_env: Object.entries(this.order.env),
      jupyter_token: '0'.repeat(64),
      template_id: null,
      template_hash_id: null,
      template_name: null,
      ssh_host: host.publicAddress.trim(),
      ssh_idx: '5',
      ssh_port: ports.get(22) ?? 10_000 + (this.id % 10_000),
      machine_dir_ssh_port: 22_022,
      public_ipaddr: host.publicAddress,
      local_ipaddrs: '10.2.0.5 172.17.0.1 \n',
      ...(isUp && { ports: Object.fromEntries([...ports].map(([inner, outer]) => [`${inner}/tcp`, bindings(outer)])) }),
      direct_port_start: -1,
      direct_port_end: -1,
      country_code: seed.geolocation.slice(-2),
      external: null,
      is_bid: this.isBid,
      min_bid: minBid,
      dph_base: this.gpuHour,
      dph_total: price.totalHour,
      search: price,
      instance: this.intended === 'running' ? price : priceParts(0, diskHour),
      storage_total_cost: diskHour,
      start_date: this.startedAtS,
      end_date: this.startedAtS + days * 86_400,
      duration: this.startedAtS + days * 86_400 - nowS,
      uptime_mins: this.#runsSinceS === null ? null : (nowS - this.#runsSinceS) / 60,
      gpu_totalram: seed.gpu_ram * seed.num_gpus,
      gpu_frac: 1,
      gpu_util: isUp ? 0 : null,
      gpu_temp: isUp ? 38 : null,
      gpu_arch: 'nvidia',
      cpu_arch: 'amd64',
      cpu_util: 0.02,
      mem_limit: 64,
      mem_usage: 1.2,
      vmem_usage: 0,
      disk_space: this.order.disk,
      disk_usage: -1,
      disk_util: -1,
      host_disk_space: seed.disk_space,
      reliability: seed.reliability2,
      time_remaining: '',
      time_remaining_isbid: '',
      volume_info: [],
      rentable: false,
      rented: true,
    };
  }

  #up(): void {
    this.#do(async () => {
      const { behaviour } = this.ask;
      const isLate = behaviour.kind === 'ssh-key-delay';
      await this.machine.start(isLate ? [] : this.#keys());
      if (this.#isOver) return;
      this.actual = 'running';
      this.message = `success, running ${this.order.image.replace(':', '_')}/ssh`;
      this.#runsSinceS = this.#parts.clock.nowMs() / 1_000;
      if (behaviour.kind === 'ssh-key-delay') {
        this.#later(behaviour.seconds, () => this.#do(() => this.machine.authorize(this.#keys())));
      }
      if (behaviour.kind === 'outbid' && this.isBid) this.#later(behaviour.seconds, () => this.outbid());
      if (behaviour.kind === 'offline') this.#later(behaviour.seconds, () => this.goOffline());
    });
  }

  #down(actual: string): void {
    this.#runsSinceS = null;
    this.actual = actual;
    this.#do(() => this.machine.halt());
  }

  #failToRun(): void {
    this.#set('stopped');
    this.actual = 'created';
    this.message = 'Error response from daemon: failed to create task for container: OCI runtime create failed: runc';
  }

  #set(state: Wanted): void {
    this.intended = state;
    this.current = state;
    this.next = state;
  }

  #keys(): readonly string[] {
    if (this.ask.behaviour.kind === 'no-ssh') return [];
    return [...this.#parts.accountKeys(), ...this.attachedKeys];
  }

  #do(work: () => Promise<void>): void {
    this.#work = this.#work
      .then(async () => {
        if (!this.#isOver) await work();
      })
      .catch(this.#parts.onError);
  }

  #later(seconds: number, happen: () => void): void {
    const cancel = this.#parts.clock.after(seconds * 1_000, () => {
      this.#timers.delete(cancel);
      happen();
    });
    this.#timers.add(cancel);
  }

  #cancelTimers(): void {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }
}

/** A key for one instance alone, as each order is answered with. */
export function drawInstanceKey(): string {
  return randomBytes(32).toString('hex');
}

function bindings(outer: number) {
  return [{ HostIp: '0.0.0.0', HostPort: String(outer) }];
}
