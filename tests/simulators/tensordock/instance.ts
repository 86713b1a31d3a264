import { systemClock } from '@dumont/shared/util/clock.ts';
import { RealMachine } from '../real-machine.ts';

/** What an order says, as far as the simulator looks. */
export interface OrderAttributes {
  readonly name?: string;
  readonly image?: string;
  readonly hostnode_id?: string;
  readonly ssh_key?: string;
  readonly resources?: {
    readonly vcpu_count?: number;
    readonly ram_gb?: number;
    readonly storage_gb?: number;
    readonly gpus?: Readonly<Record<string, { readonly count: number }>>;
  };
  readonly port_forwards?: readonly { readonly internal_port: number; readonly external_port: number }[];
  readonly cloud_init?: {
    readonly write_files?: readonly { readonly path: string; readonly content: string }[];
    readonly runcmd?: readonly string[];
  };
}

/** Short, for tests; long enough that each word is seen. */
const PHASE_MS = 200;

/** One virtual machine: queued, starting, running, with a {@link RealMachine} once it runs. */
export class SimulatedInstance implements AsyncDisposable {
  readonly id: string;
  readonly attributes: OrderAttributes;
  readonly hostId: string;
  readonly gpu: string;
  readonly #host: string;
  /** TensorDock's word; tests may set another. */
  status = 'queued';
  #machine: RealMachine | null = null;
  readonly #booted: Promise<void>;
  readonly #ended = new AbortController();

  constructor(parts: {
    readonly id: string;
    readonly attributes: OrderAttributes;
    readonly hostId: string;
    readonly gpu: string;
    /** Address of its host. */
    readonly host: string;
  }) {
    this.id = parts.id;
    this.attributes = parts.attributes;
    this.hostId = parts.hostId;
    this.gpu = parts.gpu;
    this.#host = parts.host;
    this.#booted = this.#boot();
  }

  /** Folder of its running machine. */
  get folder(): string | undefined {
    return this.#machine?.folder;
  }

  view(): object {
    const { name, resources, port_forwards: portForwards = [] } = this.attributes;
    const isUp = this.status === 'running';
    const type = 'virtualmachine';
    return {
      type,
      id: this.id,
      name,
      status: this.status,
      ipAddress: isUp ? this.#host : null,
      portForwards,
      resources,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#booted;
    await this.#machine?.[Symbol.asyncDispose]();
  }

  async #boot(): Promise<void> {
    const { signal } = this.#ended;
    try {
      await systemClock.sleep(PHASE_MS, signal);
      this.status = 'starting';
      await systemClock.sleep(PHASE_MS, signal);
    } catch {
      return;
    }
    const { cloud_init: { write_files: files = [], runcmd = [] } = {}, port_forwards: forwards = [] } = this.attributes;
    // Its root is a folder: paths of the files it was given are below that.
    const script = files.reduce((text, { path }) => text.replaceAll(path, `"$HOME"${path}`), runcmd.join('\n'));
    this.#machine = await RealMachine.boot({
      ref: this.id,
      script,
      files: Object.fromEntries(files.map(({ path, content }) => [path, content])),
      host: this.#host,
      port: forwards.find((forward) => forward.internal_port === 22)?.external_port ?? 0,
    });
    if (!signal.aborted) this.status = 'running';
  }
}
