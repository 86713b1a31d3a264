import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import type {
  CreateOutcome,
  CreateRequest,
  MachineAddress,
  Provider,
  ProviderMachine,
  ProviderRef,
} from '../provider.ts';
import { namesIn, processesOf, takeOrderFault, vanishedOfferIds } from './local-faults.ts';
import {
  discard,
  machinePaths,
  machinesFolder,
  MARK_NAMES,
  pathsForRef,
  readClaim,
  readLeader,
  readMark,
  readRecord,
  readStatus,
  refForLabel,
  setMark,
  type MachinePaths,
  type MachineRecord,
  type MarkName,
} from './machine-folder.ts';
import { reportStatus } from './machine-status.ts';
import { drawBootMs, LOCAL_MARKET, LOCAL_PROVIDER_NAME, type LocalOffer } from './market.ts';
import { isAlive, killMachine, MACHINE_REF_VARIABLE } from './process-tree.ts';

export interface LocalProviderOptions {
  /** Folder of the whole fleet; created when missing. Providers with the same root see the same machines. */
  readonly root: string;
  /** What a machine runs as its agent: program and arguments. Changing it affects machines created afterwards. */
  readonly agentCommand: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly market?: readonly LocalOffer[];
  /** Factor on every boot time: 1 is the market's own, 0 boots at once. */
  readonly bootScale?: number;
  /** How late a frozen or cut machine is reported `unreachable`. */
  readonly offlineAfterMs?: number;
}

/** As on real marketplaces, where a dead host is noticed after about a minute. */
const OFFLINE_AFTER_MS = 60_000;

/** Unfinished orders and half-deleted folders of a crashed process are swept when they are this old. */
const LEFTOVER_AGE_MS = 60_000;

/**
 * A rented machine is a stranger's computer: it must not see the control plane's environment, only what a program
 * needs to run at all.
 */
const INHERITED_VARIABLES = ['PATH', 'HOME', 'USER', 'SHELL', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR'] as const;

const HOST_PROGRAM = fileURLToPath(new URL('./machine-host.ts', import.meta.url));

/**
 * A marketplace on this computer: its machines are trees of real processes with a disk, a network and a price. All
 * state is under `root`, and machines live on when this process dies. Spec: the docs of {@link Provider}.
 */
export class LocalProvider implements Provider {
  readonly name = LOCAL_PROVIDER_NAME;
  readonly #options: LocalProviderOptions;
  readonly #root: string;
  readonly #market: ReadonlyMap<string, LocalOffer>;
  /** Orders of this process run one after another, so that two for one offer have one winner. */
  #orders: Promise<unknown> = Promise.resolve();

  constructor(options: LocalProviderOptions) {
    this.#options = options;
    this.#root = resolve(options.root);
    this.#market = new Map((options.market ?? LOCAL_MARKET).map((listing) => [listing.offer.offerId, listing]));
  }

  async searchOffers({ signal }: { readonly signal: AbortSignal }): Promise<readonly Offer[]> {
    return this.#attempt('searching offers', signal, async () => {
      const taken = new Set([...(await this.#records())].map((record) => record.offer.offerId));
      const vanished = await vanishedOfferIds(this.#root);
      return [...this.#market.values()]
        .map((listing) => listing.offer)
        .filter((offer) => !taken.has(offer.offerId) && !vanished.has(offer.offerId));
    });
  }

  async create(request: CreateRequest, { signal }: { readonly signal: AbortSignal }): Promise<CreateOutcome> {
    requirePlainControlUrl(request.agentEnvironment['DUMONT_CONTROL_URL']);
    const order = this.#orders.then(() =>
      this.#attempt(`ordering ${request.offer.offerId}`, signal, () => this.#order(request)),
    );
    this.#orders = order.catch(() => undefined);
    return order;
  }

  async show(ref: ProviderRef, { signal }: { readonly signal: AbortSignal }): Promise<ProviderMachine | null> {
    return this.#attempt(`showing ${ref}`, signal, () => this.#show(ref));
  }

  async list({ signal }: { readonly signal: AbortSignal }): Promise<readonly ProviderMachine[]> {
    return this.#attempt('listing machines', signal, async () => {
      const refs = await namesIn(machinesFolder(this.#root));
      const machines = await Promise.all(refs.map((ref) => this.#show(ref)));
      return machines.filter((machine) => machine !== null);
    });
  }

  async destroy(ref: ProviderRef, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    return this.#attempt(`destroying ${ref}`, signal, async () => {
      const paths = pathsForRef(this.#root, ref);
      if (paths === null || (await readRecord(paths)) === null) return;
      try {
        await setMark(paths, 'destroyed', this.#options.clock.nowMs());
      } catch (error) {
        // Another call removed it in the meantime.
        if (systemErrorCode(error) === 'ENOENT') return;
        throw error;
      }
      await killMachine(await processesOf(ref, paths), this.#options.clock);
      await discard(this.#root, paths.folder);
      this.#options.log.info({ event: 'local.destroyed', ref }, 'machine destroyed');
    });
  }

  /** Where a machine keeps its workspace and logs, for demos and diagnosis; null for a reference that is not ours. */
  paths(ref: ProviderRef): MachinePaths | null {
    return pathsForRef(this.#root, ref);
  }

  async #order(request: CreateRequest): Promise<CreateOutcome> {
    const ref = refForLabel(this.#root, request.label);
    const paths = must(pathsForRef(this.#root, ref), 'derived references are well-formed');
    const existing = await readRecord(paths);
    if (existing !== null) return this.#start(existing, paths);

    const listing = this.#market.get(request.offer.offerId);
    if (listing === undefined || (await vanishedOfferIds(this.#root)).has(request.offer.offerId)) {
      return { kind: 'offer-gone' };
    }
    if (await this.#isTaken(listing.offer.offerId, ref)) return { kind: 'offer-gone' };
    const fault = await takeOrderFault(this.#root);
    if (fault === 'refused') return { kind: 'refused', reason: 'the host turned the order down' };

    const { clock, random, agentCommand, bootScale = 1 } = this.#options;
    const record: MachineRecord = {
      ref,
      label: request.label,
      offer: listing.offer,
      createdAtMs: clock.nowMs(),
      bootMs: drawBootMs(listing, bootScale, random),
      boots: fault === null,
      agentCommand: [...agentCommand],
      agentEnvironment: { ...request.agentEnvironment },
      ports: [...(request.ports ?? [])],
    };
    await this.#place(record, paths);
    return this.#start(record, paths);
  }

  /**
   * Puts the machine's folder in place in one step, complete. Nothing changes when another process has just placed a
   * machine of this label.
   */
  async #place(record: MachineRecord, paths: MachinePaths): Promise<void> {
    await this.#sweepLeftovers();
    const staging = machinePaths(join(this.#root, 'staging', randomUUID()));
    await Promise.all(
      [staging.workspace, staging.state, join(staging.folder, 'logs')].map((folder) =>
        mkdir(folder, { recursive: true, mode: 0o700 }),
      ),
    );
    // Holds the machine's token.
    await writeFile(staging.record, JSON.stringify(record), { mode: 0o600 });
    await mkdir(machinesFolder(this.#root), { recursive: true, mode: 0o700 });
    try {
      await rename(staging.folder, paths.folder);
    } catch (error) {
      await rm(staging.folder, { recursive: true, force: true });
      if (systemErrorCode(error) !== 'ENOTEMPTY' && systemErrorCode(error) !== 'EEXIST') throw error;
    }
  }

  /**
   * Starts the host process of a placed machine unless it has one; also completes an order that a crash left half-way.
   * Several starters do no harm: the first host to claim the folder runs it.
   */
  async #start(record: MachineRecord, paths: MachinePaths): Promise<CreateOutcome> {
    const { ref } = record;
    if ((await readMark(paths, 'destroyed')) !== null) {
      return { kind: 'refused', reason: `machine ${ref} of this label is being destroyed` };
    }
    const hasHost = (await readLeader(paths)) !== null || (await readMark(paths, 'killed')) !== null;
    if (hasHost) return { kind: 'created', ref };
    // Looked at again now that our own claim is visible: of two processes that ordered one offer, at least one sees
    // the other here and steps back.
    if (await this.#isTaken(record.offer.offerId, ref)) {
      await discard(this.#root, paths.folder);
      return { kind: 'offer-gone' };
    }
    const pid = await spawnHost(ref, paths);
    this.#options.log.info({ event: 'local.created', ref, label: record.label, pid }, 'machine created');
    return { kind: 'created', ref };
  }

  async #isTaken(offerId: string, exceptRef: ProviderRef): Promise<boolean> {
    const records = await this.#records();
    return records.some((record) => record.offer.offerId === offerId && record.ref !== exceptRef);
  }

  async #records(): Promise<readonly MachineRecord[]> {
    const refs = await namesIn(machinesFolder(this.#root));
    const paths = refs.map((ref) => pathsForRef(this.#root, ref)).filter((found) => found !== null);
    return (await Promise.all(paths.map(readRecord))).filter((record) => record !== null);
  }

  async #show(ref: ProviderRef): Promise<ProviderMachine | null> {
    const paths = pathsForRef(this.#root, ref);
    const record = paths === null ? null : await readRecord(paths);
    if (paths === null || record === null) return null;
    const leader = await readLeader(paths);
    const host = leader === null ? 'none' : (await isAlive(leader)) ? 'alive' : 'dead';
    const marks = await Promise.all(MARK_NAMES.map(async (name) => [name, await readMark(paths, name)] as const));
    const status = await readStatus(paths);
    const claim = marks.some(([name, sinceMs]) => name === 'destroyed' && sinceMs !== null)
      ? null
      : await readClaim(paths);
    // The folder may have been removed between these reads; then nothing read is worth anything.
    if ((await readRecord(paths)) === null || claim === 'gone') return null;
    const truth = reportStatus({
      createdAtMs: record.createdAtMs,
      marks: Object.fromEntries(marks) as Record<MarkName, number | null>,
      host,
      status,
      nowMs: this.#options.clock.nowMs(),
      offlineAfterMs: this.#options.offlineAfterMs ?? OFFLINE_AFTER_MS,
    });
    return {
      ref,
      label: record.label,
      ...(claim === null ? truth : { status: claim, rawStatus: claim, statusMessage: null }),
      probe: loopback(status?.probePort ?? null),
      ssh: loopback(status?.sshPort ?? null),
      ports: new Map((status?.ports ?? []).map(([inner, port]) => [inner, { host: '127.0.0.1', port }])),
    };
  }

  async #sweepLeftovers(): Promise<void> {
    const oldMs = this.#options.clock.nowMs() - LEFTOVER_AGE_MS;
    for (const folder of ['staging', 'trash'].map((name) => join(this.#root, name))) {
      for (const name of await namesIn(folder)) {
        const path = join(folder, name);
        const changedMs = (await stat(path).catch(() => null))?.mtimeMs;
        if (changedMs !== undefined && changedMs < oldMs) await rm(path, { recursive: true, force: true });
      }
    }
  }

  async #attempt<Result>(doing: string, signal: AbortSignal, work: () => Promise<Result>): Promise<Result> {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      throw toDumontError(error, 'PROVIDER', doing);
    }
  }
}

function loopback(port: number | null): MachineAddress | null {
  return port === null ? null : { host: '127.0.0.1', port };
}

/** Starts the machine's leader in a session of its own, so that nothing that happens to this process reaches it. */
async function spawnHost(ref: ProviderRef, paths: MachinePaths): Promise<number> {
  const environment: Record<string, string> = { [MACHINE_REF_VARIABLE]: ref };
  for (const name of INHERITED_VARIABLES) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  const log = await open(paths.hostLog, 'a', 0o600);
  try {
    const host = spawn(process.execPath, [HOST_PROGRAM, paths.folder], {
      detached: true,
      cwd: paths.folder,
      env: environment,
      stdio: ['ignore', log.fd, log.fd],
    });
    await once(host, 'spawn');
    host.unref();
    return must(host.pid, 'a spawned process has an id');
  } finally {
    await log.close();
  }
}

/** The uplink relays bytes to another port and name, which a certificate would not cover. */
function requirePlainControlUrl(url: string | undefined): void {
  if (url === undefined) return;
  const protocol = URL.canParse(url) ? new URL(url).protocol : 'no URL';
  if (protocol === 'ws:' || protocol === 'http:') return;
  throw new DumontError('USAGE', `local machines cannot reach the control plane by "${url}"`, {
    field: 'DUMONT_CONTROL_URL',
    hint: 'Give the plain ws:// or http:// address of the control plane on this computer.',
  });
}
