import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';
import type { ProviderRef } from '../provider.ts';
import {
  clearMark,
  discard,
  pathsForRef,
  readLeader,
  readMark,
  readRecord,
  readStatus,
  setMark,
  writeClaim,
  type Claim,
  type HostStatus,
  type MachinePaths,
} from './machine-folder.ts';
import { OFFER_ID_PATTERN } from './market.ts';
import { continueMachine, killMachine, stopMachine, type MachineProcesses } from './process-tree.ts';

/**
 * How a machine is lost: `kill` ends every process and wipes the disk, as an outbid spot machine; `freeze` stops every
 * process, as a paused VM; `partition` takes its network away while it goes on working.
 */
export type LossKind = 'kill' | 'freeze' | 'partition';

/** What the next creates meet: a refusal, or a machine that stays in `loading` for ever. */
export type OrderFault = 'refused' | 'stuck';

/** The host process notices a mark within milliseconds; longer means it is not running. */
const NETWORK_DEADLINE_MS = 5_000;
const NETWORK_POLL_MS = 5;

/**
 * Makes real trouble for the machines under a root, from any process. Every method is idempotent and takes effect
 * before it resolves.
 */
export class LocalFaults {
  readonly #root: string;
  readonly #clock: Clock;

  constructor(options: { readonly root: string; readonly clock: Clock }) {
    this.#root = options.root;
    this.#clock = options.clock;
  }

  /** @throws {DumontError} NOT_FOUND when there is no such machine */
  async lose(ref: ProviderRef, kind: LossKind): Promise<void> {
    const paths = await this.#find(ref);
    switch (kind) {
      case 'kill':
        await setMark(paths, 'killed', this.#clock.nowMs());
        await killMachine(await processesOf(ref, paths), this.#clock);
        await discard(this.#root, paths.disk);
        return;
      case 'freeze':
        await setMark(paths, 'frozen', this.#clock.nowMs());
        await stopMachine(await processesOf(ref, paths), this.#clock);
        return;
      case 'partition':
        await setMark(paths, 'cut', this.#clock.nowMs());
        await this.#untilNetwork(paths, 'cut');
        return;
      default:
        assertNever(kind);
    }
  }

  /** Ends a freeze. @throws {DumontError} NOT_FOUND */
  async thaw(ref: ProviderRef): Promise<void> {
    const paths = await this.#find(ref);
    await continueMachine(await processesOf(ref, paths), this.#clock);
    await clearMark(paths, 'frozen');
  }

  /** Ends a partition; what was held back on open connections is delivered. @throws {DumontError} NOT_FOUND */
  async heal(ref: ProviderRef): Promise<void> {
    const paths = await this.#find(ref);
    await clearMark(paths, 'cut');
    await this.#untilNetwork(paths, 'up');
  }

  /**
   * The provider says this of the machine from now on, whatever is true; null: the truth again. A machine whose destruction
   * was asked for is reported as it is, so that nothing is held for ever. @throws {DumontError} NOT_FOUND
   */
  async lie(ref: ProviderRef, says: Claim | null): Promise<void> {
    await writeClaim(await this.#find(ref), says);
  }

  /** The next `count` creates that would have succeeded meet `fault` instead. Adds to what was asked before. */
  async refuseNext(count: number, fault: OrderFault = 'refused'): Promise<void> {
    const folder = orderFaultsFolder(this.#root, fault);
    await mkdir(folder, { recursive: true });
    for (let index = 0; index < count; index += 1) await writeFile(join(folder, randomUUID()), '');
  }

  /** These offers are no longer listed, and ordering one answers `offer-gone`. Machines already rented stay. */
  async vanishOffers(offerIds: readonly string[]): Promise<void> {
    const folder = vanishedFolder(this.#root);
    await mkdir(folder, { recursive: true });
    for (const offerId of offerIds) {
      if (!OFFER_ID_PATTERN.test(offerId)) {
        throw new DumontError('USAGE', `"${offerId}" is not an offer of the local market`, { field: 'offerIds' });
      }
      await writeFile(join(folder, offerId), '');
    }
  }

  /** Every vanished offer is back, and no create meets a fault any more. */
  async calmMarket(): Promise<void> {
    await rm(join(this.#root, 'faults'), { recursive: true, force: true });
  }

  async #find(ref: ProviderRef): Promise<MachinePaths> {
    const paths = pathsForRef(this.#root, ref);
    if (paths === null || (await readRecord(paths)) === null) {
      throw new DumontError('NOT_FOUND', `there is no local machine ${ref}`, { field: 'ref' });
    }
    return paths;
  }

  /** Waits for the host process to act; one that has no network yet, is stopped or dead has nothing to do. */
  async #untilNetwork(paths: MachinePaths, wanted: HostStatus['network']): Promise<void> {
    const deadlineMs = this.#clock.monotonicMs() + NETWORK_DEADLINE_MS;
    for (;;) {
      const status = await readStatus(paths);
      if (status === null || status.phase === 'loading' || status.network === wanted) return;
      if ((await readMark(paths, 'frozen')) !== null || (await readMark(paths, 'killed')) !== null) return;
      if (this.#clock.monotonicMs() >= deadlineMs) {
        throw new DumontError('PROVIDER', `the host of ${paths.folder} did not turn its network ${wanted}`);
      }
      await this.#clock.sleep(NETWORK_POLL_MS);
    }
  }
}

/** What belongs to the machine in the process table. */
export async function processesOf(ref: ProviderRef, paths: MachinePaths): Promise<MachineProcesses> {
  return { ref, leader: await readLeader(paths) };
}

/** Takes one order fault if any is due; each is handed out once, also between processes. */
export async function takeOrderFault(root: string): Promise<OrderFault | null> {
  for (const fault of ['refused', 'stuck'] as const) {
    const folder = orderFaultsFolder(root, fault);
    for (const token of await namesIn(folder)) {
      try {
        await rm(join(folder, token));
        return fault;
      } catch (error) {
        // Another process took this one.
        if (systemErrorCode(error) !== 'ENOENT') throw error;
      }
    }
  }
  return null;
}

/** Offers taken off the market. */
export async function vanishedOfferIds(root: string): Promise<ReadonlySet<string>> {
  return new Set(await namesIn(vanishedFolder(root)));
}

function orderFaultsFolder(root: string, fault: OrderFault): string {
  return join(root, 'faults', fault);
}

function vanishedFolder(root: string): string {
  return join(root, 'faults', 'vanished');
}

/** Names in a folder; none when it does not exist. */
export async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
