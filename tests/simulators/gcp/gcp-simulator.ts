import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { SimulatedInstance, type InstanceOrder } from './instance.ts';
import { answer, answerError, isSigned, notFound, readBody, RestError } from './rest.ts';
import { closeServer, listenOnLoopback, portOf } from '../loopback-server.ts';

interface Operation {
  readonly kind: 'compute#operation';
  readonly id: string;
  readonly name: string;
  readonly zone: string | undefined;
  readonly operationType: string;
  readonly targetLink: string;
  readonly insertTime: string;
  status: 'RUNNING' | 'DONE';
  error?: { readonly errors: readonly { readonly code: string; readonly message: string }[] };
}

interface Call {
  readonly method: string;
  /** Path segments after the project. */
  readonly path: readonly string[];
  readonly query: URLSearchParams;
  readonly body: unknown;
}

const ACCOUNT = 'dumont@simulator.iam.gserviceaccount.com';
const PAGE_SIZE = 2;

/**
 * Compute Engine as its own client knows it: the JSON of `compute/v1` for machines, operations and firewall rules, with
 * real machines behind it. Calls need a token signed by the account's key.
 */
export class GcpSimulator implements AsyncDisposable {
  readonly projectId = 'simulated-project';
  /** The service account's key file. */
  readonly credentials: string;
  /** Where the machines' SSH servers listen, each on an address of its own. */
  readonly sshPort: number;
  /** Zones without room. */
  readonly exhausted = new Set<string>();
  /** When set, orders are refused with it. */
  refusal: RestError | null = null;
  /** When true, orders are carried out and their answer is an outage. */
  losesAnswers = false;
  /** When true, the account may not look at operations. */
  hidesOperations = false;
  /** Every call, as `METHOD path`. */
  readonly calls: string[] = [];
  readonly firewalls = new Map<string, object>();
  readonly #publicKey: string;
  readonly #server: Server;
  readonly #instances = new Map<string, SimulatedInstance>();
  readonly #operations: Operation[] = [];
  readonly #byRequestId = new Map<string, Operation>();
  #count = 0;

  private constructor(server: Server, sshPort: number) {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    this.#publicKey = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    this.credentials = JSON.stringify({
      type: 'service_account',
      project_id: this.projectId,
      client_email: ACCOUNT,
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    });
    this.sshPort = sshPort;
    this.#server = server;
    server.on('request', (request, response) => void this.#serve(request, response));
  }

  static async open(): Promise<GcpSimulator> {
    // A number that is free here now; machines use it on addresses of their own.
    const probe = createServer();
    await listenOnLoopback(probe);
    const port = portOf(probe);
    await closeServer(probe);
    const server = createServer();
    await listenOnLoopback(server);
    return new GcpSimulator(server, port);
  }

  get url(): string {
    return `http://127.0.0.1:${portOf(this.#server)}`;
  }

  /** The machine of a reference, `zone/name`. */
  instance(ref: string): SimulatedInstance | undefined {
    return this.#instances.get(ref);
  }

  /** What Google does when it wants a Spot machine back. */
  preempt(ref: string): void {
    const instance = this.#instances.get(ref);
    if (instance === undefined) throw new Error(`there is no machine ${ref}`);
    this.#note('compute.instances.preempted', instance).status = 'DONE';
    void this.#end(instance);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeServer(this.#server);
    await Promise.all([...this.#instances.values()].map((instance) => instance[Symbol.asyncDispose]()));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? '', this.url);
      const [, compute, version, projects, project, ...path] = url.pathname.split('/');
      const method = request.method ?? '';
      const body = await readBody(request);
      this.calls.push(`${method} ${path.join('/')}`);
      if (!isSigned(request, { email: ACCOUNT, publicKey: this.#publicKey })) {
        throw new RestError(401, 'authError', 'Request had invalid authentication credentials.');
      }
      const isOurs = [compute, version, projects, project].join('/') === `compute/v1/projects/${this.projectId}`;
      if (!isOurs) throw notFound(url.pathname);
      answer(response, 200, await this.#handle({ method, path, query: url.searchParams, body }));
    } catch (error) {
      answerError(response, error);
    }
  }

  async #handle(call: Call): Promise<object> {
    const { method, path, query, body } = call;
    const [scope = '', zone = '', collection = '', name = ''] = path;
    if (scope === 'aggregated') return this.#aggregated(query);
    if (scope === 'global') return this.#global(method, { collection: zone, name: collection, body });
    if (scope !== 'zones') throw notFound(path.join('/'));
    if (collection === 'operations') return name === '' ? this.#operationsIn(zone, query) : this.#operation(name);
    if (collection !== 'instances') throw notFound(path.join('/'));
    if (method === 'POST') return this.#insert(zone, body as InstanceOrder, query.get('requestId') ?? '');
    if (name === '')
      return page(
        this.#matching(query).filter((one) => one.zone === zone),
        query,
      );
    const instance = this.#instances.get(`${zone}/${name}`);
    if (instance === undefined) throw notFound(`projects/${this.projectId}/zones/${zone}/instances/${name}`);
    if (method === 'GET') return instance.view();
    const operation = this.#note('delete', instance);
    void this.#end(instance).then(() => (operation.status = 'DONE'));
    return operation;
  }

  #insert(zone: string, order: InstanceOrder, requestId: string): object {
    const repeated = this.#byRequestId.get(requestId);
    if (repeated !== undefined) return repeated;
    if (this.refusal !== null) throw this.refusal;
    const path = `${zone}/${order.name}`;
    if (this.#instances.has(path)) {
      throw new RestError(
        409,
        'alreadyExists',
        `The resource 'projects/${this.projectId}/zones/${path}' already exists`,
      );
    }
    this.#count += 1;
    const host = `127.${90 + ((process.pid >> 8) & 31)}.${process.pid & 255}.${this.#count}`;
    const instance = new SimulatedInstance({ zone, order, host, sshPort: this.sshPort, url: this.url });
    this.#instances.set(path, instance);
    const operation = this.#note('insert', instance);
    this.#byRequestId.set(requestId, operation);
    void this.#place(instance, operation);
    if (this.losesAnswers) throw new RestError(503, 'backendError', 'Service unavailable');
    return operation;
  }

  async #place(instance: SimulatedInstance, operation: Operation): Promise<void> {
    if (this.exhausted.has(instance.zone)) {
      await systemClock.sleep(30);
      this.#instances.delete(instance.path);
      const message = `The zone '${instance.zone}' does not have enough resources available to fulfill the request.`;
      operation.error = { errors: [{ code: 'ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS', message }] };
    } else {
      await instance.boot();
    }
    operation.status = 'DONE';
  }

  async #end(instance: SimulatedInstance): Promise<void> {
    await instance.stop();
    this.#instances.delete(instance.path);
  }

  #note(operationType: string, { zone, selfLink }: { readonly zone?: string; readonly selfLink: string }): Operation {
    const id = String(this.#operations.length + 1);
    const operation: Operation = {
      kind: 'compute#operation',
      id,
      name: `operation-${id}-${randomUUID()}`,
      zone: zone === undefined ? undefined : `${this.url}/compute/v1/projects/${this.projectId}/zones/${zone}`,
      operationType,
      targetLink: selfLink,
      insertTime: new Date(systemClock.nowMs()).toISOString(),
      status: 'RUNNING',
    };
    this.#operations.push(operation);
    return operation;
  }

  #operation(name: string): object {
    if (this.hidesOperations) throw new RestError(403, 'forbidden', 'Required compute.zoneOperations.get permission');
    const operation = this.#operations.find((one) => one.name === name);
    if (operation === undefined) throw notFound(name);
    return operation;
  }

  #operationsIn(zone: string, query: URLSearchParams): object {
    const wanted = /operationType="([^"]+)"/.exec(query.get('filter') ?? '')?.[1];
    const found = this.#operations.filter(
      (one) => one.zone?.endsWith(`/${zone}`) === true && (wanted === undefined || one.operationType === wanted),
    );
    return page(found.toReversed(), query);
  }

  /** What the filter `labels.name=value` lets through. */
  #matching(query: URLSearchParams): readonly SimulatedInstance[] {
    const [, name = '', value] = /^labels\.([^=]+)=(.*)$/.exec(query.get('filter') ?? '') ?? [];
    const all = [...this.#instances.values()];
    return value === undefined ? all : all.filter(({ labels }) => labels[name] === value);
  }

  /** Every zone is named, those without machines with a warning in their place. */
  #aggregated(query: URLSearchParams): object {
    const items: Record<string, object> = { 'zones/us-south1-a': { warning: { code: 'NO_RESULTS_ON_PAGE' } } };
    const start = Number(query.get('pageToken') ?? 0);
    const all = this.#matching(query);
    for (const instance of all.slice(start, start + PAGE_SIZE)) {
      const key = `zones/${instance.zone}`;
      const { instances = [] } = (items[key] ?? {}) as { instances?: object[] };
      items[key] = { instances: [...instances, instance.view()] };
    }
    return { items, ...(start + PAGE_SIZE < all.length && { nextPageToken: String(start + PAGE_SIZE) }) };
  }

  #global(
    method: string,
    target: { readonly collection: string; readonly name: string; readonly body: unknown },
  ): object {
    const { collection, name, body } = target;
    if (collection === 'operations') return this.#operation(name);
    if (collection !== 'firewalls') throw notFound(collection);
    if (method === 'GET') {
      const rule = this.firewalls.get(name);
      if (rule === undefined) throw notFound(name);
      return rule;
    }
    const rule = body as { readonly name: string };
    if (this.firewalls.has(rule.name)) throw new RestError(409, 'alreadyExists', `'${rule.name}' already exists`);
    this.firewalls.set(rule.name, rule);
    const operation = this.#note('insert', { selfLink: `${this.url}/firewalls/${rule.name}` });
    void systemClock.sleep(20).then(() => (operation.status = 'DONE'));
    return operation;
  }
}

function page(all: readonly object[], query: URLSearchParams): object {
  const start = Number(query.get('pageToken') ?? 0);
  const items = all
    .slice(start, start + PAGE_SIZE)
    .map((one) => ('view' in one ? (one as SimulatedInstance).view() : one));
  return { items, ...(start + PAGE_SIZE < all.length && { nextPageToken: String(start + PAGE_SIZE) }) };
}
