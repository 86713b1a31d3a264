import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { SimulatedInstance, type OrderAttributes } from './instance.ts';
import { TENSORDOCK_SEED, type SeedHost } from './seed.ts';
import { closeServer, listenOnLoopback, portOf } from '../loopback-server.ts';

/** An answer: TensorDock gives some errors with status 200. */
interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const LEAST_STORAGE_GB = 100;
/** Ports that each host has free at the start. */
const PORTS_PER_HOST = 4;
const MINUTE_MS = 60_000;

/**
 * TensorDock's API v2 as it is documented and as working clients found it: bearer token, envelopes of several shapes,
 * errors with status 200, 100 calls a minute; with real machines behind it.
 */
export class TensorDockSimulator implements AsyncDisposable {
  readonly apiKey = `td-${randomUUID()}`;
  /** Lists come in `data.instances` with attributes, or flat in `data`. */
  isFlat = true;
  callsPerMinute = 10_000;
  /** What the next orders answer in place of carrying them out. */
  readonly orderFaults: Answer[] = [];
  /** When true, orders are carried out and the connection breaks before the answer. */
  losesAnswers = false;
  /** Every call, as `METHOD path`. */
  readonly calls: string[] = [];
  readonly #server: Server;
  readonly #ports: ReadonlyMap<string, readonly number[]>;
  readonly #instances = new Map<string, SimulatedInstance>();
  #window = { startMs: 0, calls: 0 };

  private constructor(server: Server, ports: ReadonlyMap<string, readonly number[]>) {
    this.#server = server;
    this.#ports = ports;
    server.on('request', (request, response) => void this.#serve(request, response));
  }

  static async open(): Promise<TensorDockSimulator> {
    const server = createServer();
    await listenOnLoopback(server);
    const ports = new Map<string, readonly number[]>();
    for (const [index, { id }] of TENSORDOCK_SEED.entries()) ports.set(id, await freePorts(addressOf(index)));
    return new TensorDockSimulator(server, ports);
  }

  get url(): string {
    return `http://127.0.0.1:${portOf(this.#server)}/api/v2`;
  }

  instance(id: string): SimulatedInstance | undefined {
    return this.#instances.get(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeServer(this.#server);
    await Promise.all([...this.#instances.values()].map((instance) => instance[Symbol.asyncDispose]()));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString('utf8');
    const path = new URL(request.url ?? '', this.url).pathname.replace('/api/v2', '');
    this.calls.push(`${request.method} ${path}`);
    const { status, body } = await this.#answer(request, path, text);
    if (this.losesAnswers && request.method === 'POST') {
      response.destroy();
      return;
    }
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  async #answer(request: IncomingMessage, path: string, text: string): Promise<Answer> {
    if (this.#isTooFast()) return { status: 429, body: { error: 'Too many requests', status: 429 } };
    if (request.headers.authorization !== `Bearer ${this.apiKey}`) {
      return { status: 401, body: { error: 'Unauthorized', status: 401 } };
    }
    const [, collection = '', id = ''] = path.split('/');
    const method = request.method ?? '';
    if (collection === 'hostnodes') return this.#hostNodes(id);
    if (collection !== 'instances') return failure(404, 'Not found');
    if (method === 'POST') return this.#create(text);
    if (id === '') return { status: 200, body: this.#list() };
    const instance = this.#instances.get(id);
    if (instance === undefined) return failure(404, 'Instance not found');
    if (method === 'GET') return { status: 200, body: this.isFlat ? instance.view() : { data: instance.view() } };
    if (method !== 'DELETE') return failure(405, 'Method not allowed');
    this.#instances.delete(id);
    await instance[Symbol.asyncDispose]();
    const attributes = { message: 'Instance deleted successfully' };
    return { status: 200, body: { data: { type: 'success', attributes } } };
  }

  /** A fixed window, as documented. */
  #isTooFast(): boolean {
    const nowMs = systemClock.monotonicMs();
    if (nowMs - this.#window.startMs >= MINUTE_MS) this.#window = { startMs: nowMs, calls: 0 };
    this.#window.calls += 1;
    return this.#window.calls > this.callsPerMinute;
  }

  #list(): object {
    const views = [...this.#instances.values()].map((instance) => instance.view());
    if (this.isFlat) return { data: views };
    const instances = views.map((view) => {
      const { type, id, ...attributes } = view as { type: string; id: string };
      return { type, id, attributes };
    });
    return { data: { instances } };
  }

  #hostNodes(id: string): Answer {
    const nodes = TENSORDOCK_SEED.map((seed) => this.#nodeView(seed));
    if (id === '') return { status: 200, body: { data: { hostnodes: nodes } } };
    const node = nodes.find((one) => one.id === id);
    return node === undefined ? failure(404, 'Hostnode not found') : { status: 200, body: { data: node } };
  }

  #nodeView(seed: SeedHost) {
    const here = [...this.#instances.values()].filter(({ hostId }) => hostId === seed.id);
    const used = new Set(here.flatMap(({ attributes }) => attributes.port_forwards?.map((one) => one.external_port)));
    const [perVcpu, perGbRam, perGbStorage] = seed.besides;
    const { id, city, stateprovince, country, tier, vcpus, ramGb, storageGb } = seed;
    return {
      id,
      uptime_percentage: 99.4 - seed.gpuCount / 10,
      available_resources: {
        gpus: [{ v0Name: seed.gpu, availableCount: seed.gpuCount - here.length, price_per_hr: seed.usd }],
        vcpu_count: vcpus,
        ram_gb: ramGb,
        storage_gb: storageGb,
        max_vcpus_per_gpu: 16,
        max_ram_per_gpu: 64,
        available_ports: (this.#ports.get(id) ?? []).filter((port) => !used.has(port)),
        has_public_ip_available: true,
      },
      pricing: { per_vcpu_hr: perVcpu, per_gb_ram_hr: perGbRam, per_gb_storage_hr: perGbStorage },
      location: { uuid: id, city, stateprovince, country, tier },
    };
  }

  #create(text: string): Answer {
    const fault = this.orderFaults.shift();
    if (fault !== undefined) return fault;
    const { data } = JSON.parse(text) as { data?: { attributes?: OrderAttributes } };
    const attributes = data?.attributes ?? {};
    const seedIndex = TENSORDOCK_SEED.findIndex(({ id }) => id === attributes.hostnode_id);
    const seed = TENSORDOCK_SEED[seedIndex];
    const objection = this.#objection(attributes, seed);
    if (objection !== null || seed === undefined) return failure(400, objection ?? 'Hostnode not found');
    const node = this.#nodeView(seed);
    // With status 200.
    if ((node.available_resources.gpus[0]?.availableCount ?? 0) < 1) {
      return { status: 200, body: { error: 'Hostnode unavailable', status: 400 } };
    }
    const id = randomUUID();
    const order = { id, attributes, hostId: seed.id, gpu: seed.gpu, host: addressOf(seedIndex) };
    const instance = new SimulatedInstance(order);
    this.#instances.set(id, instance);
    return { status: 201, body: { data: { type: 'virtualmachine', id, name: attributes.name, status: 'queued' } } };
  }

  #objection(order: OrderAttributes, seed: SeedHost | undefined): string | null {
    if (seed === undefined) return 'Hostnode not found';
    if (order.resources?.gpus?.[seed.gpu]?.count !== 1) return 'the hostnode has no such GPU';
    if ((order.resources.storage_gb ?? 0) < LEAST_STORAGE_GB) return 'storage_gb must be at least 100';
    if (order.ssh_key === undefined || !order.ssh_key.startsWith('ssh-')) return 'ssh_key is required';
    const free = this.#nodeView(seed).available_resources.available_ports;
    const isFree = (order.port_forwards ?? []).every(({ external_port }) => free.includes(external_port));
    return isFree ? null : 'port is not available';
  }
}

function failure(status: number, error: string): Answer {
  return { status, body: { error, status } };
}

/** Each host has an address of its own on this computer. */
function addressOf(index: number): string {
  return `127.${80 + ((process.pid >> 8) & 7)}.${process.pid & 255}.${index + 1}`;
}

/** Numbers that are free at an address now. */
async function freePorts(host: string): Promise<readonly number[]> {
  const servers = Array.from({ length: PORTS_PER_HOST }, () => createTcpServer().listen(0, host));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) server.close();
  return ports;
}
