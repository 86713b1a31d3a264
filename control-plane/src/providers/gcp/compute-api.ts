import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type {
  FirewallsClient,
  GlobalOperationsClient,
  InstancesClient,
  ZoneOperationsClient,
} from '@google-cloud/compute';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { abortable } from '../abortable.ts';
import { MANAGED_LABEL, type InstancePath } from './machine.ts';
import { readInstance, readOperation, type ComputeInstance, type ComputeOperation } from './wire.ts';

export interface ComputeApiOptions {
  readonly projectId: string;
  /** A service account's key: a file's path, or its JSON. */
  readonly credentials: { readonly file: string } | { readonly json: string };
  /** Base URL of a simulator; absent: Google's. */
  readonly url?: string;
}

/** One HTTP call, its repeats included: Compute Engine answers in about a second. */
const CALL_TIMEOUT_MS = 15_000;
/** Machines a project may have with us; more would be a runaway, and a list that is cut would hide orphans. */
const MAX_INSTANCES = 5_000;
/** Newest first; a zone that loses more machines than this while one of them stops is lost altogether. */
const MAX_PREEMPTIONS = 200;

type Clients = {
  readonly instances: InstancesClient;
  readonly zoneOperations: ZoneOperationsClient;
  readonly globalOperations: GlobalOperationsClient;
  readonly firewalls: FirewallsClient;
};

/** An HTTP error of Compute Engine: what happened to the call, as far as decisions need it. */
export class ComputeError extends Error {
  override readonly name = 'ComputeError';
  readonly status: number;
  /** Google's word, such as `quotaExceeded`; empty when there was none. */
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

/**
 * The calls of Compute Engine that we make, through Google's client, which is loaded at the first of them: it takes two
 * seconds and 200 MB. Replies are validated. Every method honours its signal; errors are {@link ComputeError} where
 * Compute Engine refused for certain, DumontError UNAVAILABLE where nobody knows what happened, and DumontError USAGE
 * for credentials that are none.
 */
export class ComputeApi {
  readonly #options: ComputeApiOptions;
  #clients: Promise<Clients> | undefined;

  constructor(options: ComputeApiOptions) {
    this.#options = options;
  }

  get projectId(): string {
    return this.#options.projectId;
  }

  /** Null when there is none. */
  async find({ zone, name }: InstancePath, signal: AbortSignal): Promise<ComputeInstance | null> {
    return this.#orNull(`showing ${zone}/${name}`, signal, async ({ instances }) => {
      const [instance] = await instances.get({ ...this.#project, zone, instance: name }, CALL);
      return readInstance(instance);
    });
  }

  /** Ours in every zone, or in one. */
  async list(signal: AbortSignal, zone?: string): Promise<readonly ComputeInstance[]> {
    const filter = `labels.${MANAGED_LABEL}=true`;
    return this.#call('listing machines', signal, async ({ instances }) => {
      const found: ComputeInstance[] = [];
      const take = (raw: unknown) => {
        found.push(readInstance(raw));
        if (found.length > MAX_INSTANCES) {
          throw new DumontError('LIMIT', `the project has more than ${MAX_INSTANCES} machines of ours`);
        }
      };
      if (zone !== undefined) {
        for await (const raw of instances.listAsync({ ...this.#project, zone, filter }, LIST)) take(raw);
        return found;
      }
      for await (const [, scope] of instances.aggregatedListAsync({ ...this.#project, filter }, LIST)) {
        for (const raw of scope.instances ?? []) take(raw);
      }
      return found;
    });
  }

  /** @returns the operation that creates it; the name is taken from now on */
  async insert(zone: string, order: { readonly requestId: string; readonly body: object }, signal: AbortSignal) {
    return this.#call(`ordering a machine in ${zone}`, signal, async ({ instances }) => {
      const { requestId, body: instanceResource } = order;
      const [answer] = await instances.insert({ ...this.#project, zone, requestId, instanceResource }, CALL);
      return readOperation(answer.latestResponse);
    });
  }

  /** Asks for the end of a machine; one that is not there, or is ending, is fine. */
  async delete({ zone, name }: InstancePath, signal: AbortSignal): Promise<void> {
    await this.#orNull(`destroying ${zone}/${name}`, signal, ({ instances }) =>
      instances.delete({ ...this.#project, zone, instance: name }, CALL),
    );
  }

  async operation(zone: string, operation: string, signal: AbortSignal): Promise<ComputeOperation> {
    return this.#call(`asking for ${operation}`, signal, async ({ zoneOperations }) => {
      const [answer] = await zoneOperations.get({ ...this.#project, zone, operation }, CALL);
      return readOperation(answer);
    });
  }

  /** Names of the machines that Google took away in this zone, of late. */
  async preempted(zone: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
    const filter = 'operationType="compute.instances.preempted"';
    return this.#call(`asking for preemptions in ${zone}`, signal, async ({ zoneOperations }) => {
      const names = new Set<string>();
      const query = { ...this.#project, zone, filter, orderBy: 'creationTimestamp desc' };
      for await (const raw of zoneOperations.listAsync(query, LIST)) {
        names.add(readOperation(raw).target);
        if (names.size >= MAX_PREEMPTIONS) break;
      }
      return names;
    });
  }

  /** True when there is a firewall rule of this name. */
  async hasFirewall(name: string, signal: AbortSignal): Promise<boolean> {
    const rule = await this.#orNull(`asking for the firewall rule ${name}`, signal, ({ firewalls }) =>
      firewalls.get({ ...this.#project, firewall: name }, CALL),
    );
    return rule !== null;
  }

  /** @returns the operation that creates it */
  async insertFirewall(body: object, signal: AbortSignal): Promise<ComputeOperation> {
    return this.#call('adding a firewall rule', signal, async ({ firewalls }) => {
      const [answer] = await firewalls.insert({ ...this.#project, firewallResource: body }, CALL);
      return readOperation(answer.latestResponse);
    });
  }

  async globalOperation(operation: string, signal: AbortSignal): Promise<ComputeOperation> {
    return this.#call(`asking for ${operation}`, signal, async ({ globalOperations }) => {
      const [answer] = await globalOperations.get({ ...this.#project, operation }, CALL);
      return readOperation(answer);
    });
  }

  get #project() {
    return { project: this.#options.projectId };
  }

  async #call<Result>(
    doing: string,
    signal: AbortSignal,
    work: (clients: Clients) => Promise<Result>,
  ): Promise<Result> {
    try {
      return await abortable(signal, async () => work(await this.#load()));
    } catch (error) {
      signal.throwIfAborted();
      throw translated(doing, error);
    }
  }

  /** Null for 404. A machine that is being deleted "is not ready" for more of it. */
  async #orNull<Result>(doing: string, signal: AbortSignal, work: (clients: Clients) => Promise<Result>) {
    try {
      return await this.#call(doing, signal, work);
    } catch (error) {
      if (error instanceof ComputeError && (error.status === 404 || error.reason === 'resourceNotReady')) return null;
      throw error;
    }
  }

  async #load(): Promise<Clients> {
    this.#clients ??= this.#connect();
    try {
      return await this.#clients;
    } catch (error) {
      // A key file that was not there may be there next time.
      this.#clients = undefined;
      throw error;
    }
  }

  async #connect(): Promise<Clients> {
    const credentials = await readCredentials(this.#options.credentials);
    const compute = await loadCompute();
    // Without scopes a service account's key signs its calls itself: no token is fetched. Each client gets a copy,
    // because it writes into its options.
    const options = { ...endpoint(this.#options.url), projectId: this.#options.projectId, scopes: [] };
    const instances = new compute.InstancesClient({ ...options });
    // The constructor's option for it warns on the console that files from strangers should not be trusted.
    instances.auth.jsonContent = credentials;
    const { auth } = instances;
    return {
      instances,
      zoneOperations: new compute.ZoneOperationsClient({ ...options, auth }),
      globalOperations: new compute.GlobalOperationsClient({ ...options, auth }),
      firewalls: new compute.FirewallsClient({ ...options, auth }),
    };
  }
}

/** Writes are repeated by us, where at all; reads by the client, within the time. */
const CALL = { timeout: CALL_TIMEOUT_MS };
/** Pages are asked for as they are wanted; the client complains where it is not told so. */
const LIST = { ...CALL, autoPaginate: false };

/** Port and protocol are options of their own: within `apiEndpoint` the client ignores them. */
function endpoint(url: string | undefined) {
  if (url === undefined) return {};
  const { hostname, port, protocol } = new URL(url);
  const scheme = protocol.replace(':', '');
  return { apiEndpoint: hostname, port: Number(port) || (scheme === 'https' ? 443 : 80), protocol: scheme };
}

const credentialsSchema = z.looseObject({
  type: z.literal('service_account'),
  client_email: z.string(),
  private_key: z.string(),
});

/** The client answers bad credentials with an uncaught exception, so they are looked at first. */
async function readCredentials(from: ComputeApiOptions['credentials']) {
  const field = 'file' in from ? 'GOOGLE_APPLICATION_CREDENTIALS' : 'DUMONT_GCP_CREDENTIALS';
  const hint = 'Give the JSON key of a service account with the role Compute Instance Admin.';
  let text: string;
  try {
    text = 'file' in from ? await readFile(from.file, 'utf8') : from.json;
  } catch (error) {
    throw new DumontError('USAGE', `cannot read ${field}: ${toDumontError(error).message}`, {
      field,
      hint,
      cause: error,
    });
  }
  const parsed = credentialsSchema.safeParse(tryParseJson(text));
  // Not with the parser's words: they might quote the key.
  if (!parsed.success) throw new DumontError('USAGE', `${field} is not a service account's key`, { field, hint });
  return parsed.data;
}

/** The client keeps the body of a refusal here; its own message drops the reason. */
const RAW_BODY = Symbol.for('google-gax.rawHttpResponsePayload');

const refusalSchema = z.object({
  error: z.object({ errors: z.array(z.object({ reason: z.string().optional() })).optional() }),
});

/** Google's status counts, its gRPC code does not: that one is translated twice and differs from the documentation. */
function translated(doing: string, error: unknown): Error {
  if (error instanceof DumontError) return error;
  const { httpStatusCode: status, [RAW_BODY]: body } = error as { httpStatusCode?: number; [RAW_BODY]?: string };
  const message = `${doing}: ${error instanceof Error ? error.message : String(error)}`;
  const refusal = refusalSchema.safeParse(tryParseJson(body ?? ''));
  const reason = (refusal.success ? refusal.data.error.errors?.[0]?.reason : undefined) ?? '';
  const isLater = status === undefined || status === 429 || status >= 500 || reason === 'rateLimitExceeded';
  if (error instanceof z.ZodError)
    return new DumontError('PROVIDER', `${doing}: the reply makes no sense`, { cause: error });
  if (isLater) return new DumontError('UNAVAILABLE', message, { retryable: true, cause: error });
  return new ComputeError(status, reason, message);
}

/**
 * Loads Google's library, which holds up everything else for two seconds: whoever has deadlines of less calls it before
 * anybody waits. Without Google Cloud configured it is not loaded at all, for it takes 200 MB.
 */
export async function loadCompute() {
  return import('@google-cloud/compute');
}
