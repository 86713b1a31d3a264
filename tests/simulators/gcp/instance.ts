import { randomUUID } from 'node:crypto';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { RealMachine } from '../real-machine.ts';

/** What an order says, as far as the simulator looks. */
export interface InstanceOrder {
  readonly name: string;
  readonly description?: string;
  readonly machineType: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly tags?: { readonly items?: readonly string[] };
  readonly scheduling?: { readonly provisioningModel?: string; readonly instanceTerminationAction?: string };
  readonly metadata?: { readonly items?: readonly { readonly key: string; readonly value: string }[] };
}

/** Short, for tests; long enough that each word is seen. */
const PHASE_MS = 300;

/** One machine: from its order through its states to its end, with a {@link RealMachine} while it runs. */
export class SimulatedInstance implements AsyncDisposable {
  readonly zone: string;
  readonly order: InstanceOrder;
  readonly #host: string;
  readonly #sshPort: number;
  readonly #url: string;
  /** Google's word; tests may set another. */
  status = 'PROVISIONING';
  #startedAt: string | undefined;
  #machine: RealMachine | null = null;
  #booting: Promise<void> = Promise.resolve();
  readonly #ended = new AbortController();
  readonly #id = randomUUID();

  constructor(parts: {
    readonly zone: string;
    readonly order: InstanceOrder;
    readonly host: string;
    readonly sshPort: number;
    readonly url: string;
  }) {
    this.zone = parts.zone;
    this.order = parts.order;
    this.#host = parts.host;
    this.#sshPort = parts.sshPort;
    this.#url = parts.url;
  }

  get path(): string {
    return `${this.zone}/${this.order.name}`;
  }

  get labels(): Readonly<Record<string, string>> {
    return this.order.labels ?? {};
  }

  get selfLink(): string {
    return `${this.#url}/compute/v1/projects/p/zones/${this.zone}/instances/${this.order.name}`;
  }

  /** Folder of its running machine. */
  get folder(): string | undefined {
    return this.#machine?.folder;
  }

  boot(): Promise<void> {
    this.#booting = this.#boot();
    return this.#booting;
  }

  /** Off, with everything that ran on it. */
  async stop(): Promise<void> {
    this.status = 'STOPPING';
    this.#ended.abort();
    await this.#booting;
    const machine = this.#machine;
    this.#machine = null;
    await machine?.[Symbol.asyncDispose]();
    await systemClock.sleep(PHASE_MS);
  }

  /** The JSON of it. */
  view(): object {
    const { order } = this;
    return {
      ...order,
      kind: 'compute#instance',
      id: '1234567890123456789',
      zone: `${this.#url}/compute/v1/projects/p/zones/${this.zone}`,
      selfLink: this.selfLink,
      status: this.status,
      ...(this.#startedAt !== undefined && { lastStartTimestamp: this.#startedAt }),
      networkInterfaces: [{ networkIP: '10.0.0.2', accessConfigs: [{ natIP: this.#host, type: 'ONE_TO_ONE_NAT' }] }],
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#booting;
    await this.#machine?.[Symbol.asyncDispose]();
  }

  async #boot(): Promise<void> {
    const { signal } = this.#ended;
    try {
      await systemClock.sleep(PHASE_MS, signal);
      this.status = 'STAGING';
      await systemClock.sleep(PHASE_MS, signal);
    } catch {
      return;
    }
    const script = this.order.metadata?.items?.find(({ key }) => key === 'startup-script')?.value ?? '';
    this.#machine = await RealMachine.boot({ ref: this.#id, script, host: this.#host, port: this.#sshPort });
    this.#startedAt = new Date(systemClock.nowMs()).toISOString();
    if (!signal.aborted) this.status = 'RUNNING';
  }
}
