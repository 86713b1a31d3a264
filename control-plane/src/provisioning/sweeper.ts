import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { costMicroUsd } from '@dumont/shared/model/money.ts';
import type { Provider, ProviderMachine, ProviderRegistry } from '../providers/provider.ts';
import type { Database } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { applyInstanceEvent, findInstance, listForgotten, setProviderRef } from '../store/instances.ts';
import type { LedgerRow } from '../store/ledger.ts';
import { confirmGone, findLedgerByLabel, listReleasing, markRented, resetGone } from '../store/ledger.ts';
import { releaseInstance } from './ledger-renter.ts';
import { providerOf } from './provider-of.ts';

export interface SweeperParts {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
  readonly providers: ProviderRegistry;
  readonly labelPrefix: string;
  /** Time between rounds while something is to be destroyed. */
  readonly busyPeriodMs: number;
  /** Least time between the two "gone" answers that prove it; less than the busy period, or a round is wasted. */
  readonly goneGapMs: number;
  /** Time between looks for strangers while nothing is to be done. */
  readonly idlePeriodMs: number;
  readonly onChange: () => void;
  /** A machine is proven gone. */
  readonly onGone: (instanceId: InstanceId) => void;
}

/** Longest one provider call may take; the next round asks again. */
const CALL_TIMEOUT_MS = 30_000;
/** Machines destroyed at once: providers limit the rate of requests. */
const MAX_CALLS_AT_ONCE = 8;

/**
 * Ends what should not exist: destroys machines whose release was asked for until the provider has denied twice that
 * they exist, gives back machines nobody holds any more, and destroys machines with our label that the ledger does not
 * know as open. Errors of a provider are logged and tried again in the next round, for ever: a machine that bills is
 * never given up.
 */
export class Sweeper implements AsyncDisposable {
  readonly #parts: SweeperParts;
  readonly #stop = new AbortController();
  #loop: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #wakeAsked = false;
  #lastIdleRoundMs = Number.NEGATIVE_INFINITY;

  constructor(parts: SweeperParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Something was released: start a round now. */
  nudge(): void {
    this.#wakeAsked = true;
    this.#wake?.();
  }

  /** One full round; what `start` repeats. */
  async sweep(): Promise<{ readonly open: number }> {
    const { clock, idlePeriodMs } = this.#parts;
    if (clock.monotonicMs() - this.#lastIdleRoundMs >= idlePeriodMs) {
      this.#lastIdleRoundMs = clock.monotonicMs();
      await this.#releaseForgotten();
      await this.#destroyStrangers();
    }
    return { open: await this.#destroyAll(await listReleasing(this.#parts.db)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { log, busyPeriodMs, idlePeriodMs } = this.#parts;
    while (!this.#stop.signal.aborted) {
      this.#wakeAsked = false;
      let waitMs = busyPeriodMs;
      try {
        const { open } = await this.sweep();
        if (open === 0) waitMs = idlePeriodMs;
      } catch (error) {
        log.error({ event: 'sweeper.round', err: error }, 'sweep failed, will try again');
      }
      await this.#pause(waitMs);
    }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#wakeAsked || this.#stop.signal.aborted) return;
    const woken = Promise.withResolvers<void>();
    const cancel = this.#parts.clock.after(ms, () => woken.resolve());
    this.#wake = () => woken.resolve();
    await woken.promise;
    this.#wake = undefined;
    cancel();
  }

  /** @returns how many are not proven gone yet */
  async #destroyAll(rows: readonly LedgerRow[]): Promise<number> {
    let open = 0;
    // Shared by the lanes: what one takes, no other gets.
    const queue = rows.values();
    const lane = async () => {
      for (const row of queue) if (!(await this.#destroy(row))) open += 1;
    };
    await Promise.all(Array.from({ length: MAX_CALLS_AT_ONCE }, lane));
    return open;
  }

  /** @returns true when the row is closed */
  async #destroy(row: LedgerRow): Promise<boolean> {
    const { db, log, providers } = this.#parts;
    using deadline = new Deadline(this.#parts.clock, CALL_TIMEOUT_MS, this.#stop.signal);
    const { signal } = deadline;
    try {
      const provider = providerOf(providers, row.provider);
      const ref = row.providerRef ?? (await findByLabel(provider, row.label, signal))?.ref;
      if (ref !== undefined) {
        if (row.providerRef === null) await this.#learnRef(row.instanceId, ref);
        await provider.destroy(ref, { signal });
        if ((await provider.show(ref, { signal })) !== null) {
          await resetGone(db, row.instanceId);
          return false;
        }
      }
      return await this.#countGone(row);
    } catch (error) {
      if (this.#stop.signal.aborted) return false;
      const { code, message } = toDumontError(error);
      log.warn(
        { event: 'sweeper.destroy', instanceId: row.instanceId, code, message },
        'destroy not confirmed, will ask again',
      );
      return false;
    }
  }

  async #countGone(row: LedgerRow): Promise<boolean> {
    const { db, clock, goneGapMs, onChange, onGone } = this.#parts;
    const atMs = clock.nowMs();
    const closed = await db.transaction(async (tx) => {
      if (!(await confirmGone(tx, row.instanceId, atMs, goneGapMs))) return false;
      await applyInstanceEvent(tx, row.instanceId, 'confirmedGone', atMs);
      const instance = await findInstance(tx, row.instanceId);
      const cost = row.rentedAtMs === null ? 0 : costMicroUsd(row.priceMicroUsdPerHour, atMs - row.rentedAtMs);
      await appendEvent(tx, {
        type: 'machine.gone',
        atMs,
        workspaceId: instance?.workspaceId ?? null,
        instanceId: row.instanceId,
        operationId: instance?.operationId ?? null,
        data: { reason: row.outcome, costMicroUsd: cost },
      });
      return true;
    });
    if (closed) {
      onChange();
      onGone(row.instanceId);
    }
    return closed;
  }

  async #learnRef(instanceId: InstanceId, ref: string): Promise<void> {
    await this.#parts.db.transaction(async (tx) => {
      await markRented(tx, instanceId, ref, this.#parts.clock.nowMs());
      await setProviderRef(tx, instanceId, ref);
    });
  }

  async #releaseForgotten(): Promise<void> {
    for (const instance of await listForgotten(this.#parts.db)) {
      await releaseInstance(this.#parts, instance.id, 'nothing holds it any more');
    }
  }

  async #destroyStrangers(): Promise<void> {
    // Side by side, so that a provider that does not answer holds up no other.
    await Promise.all([...this.#parts.providers.values()].map((provider) => this.#destroyStrangersOf(provider)));
  }

  async #destroyStrangersOf(provider: Provider): Promise<void> {
    const { db, log, labelPrefix } = this.#parts;
    using deadline = new Deadline(this.#parts.clock, CALL_TIMEOUT_MS, this.#stop.signal);
    const { signal } = deadline;
    try {
      for (const machine of await provider.list({ signal })) {
        if (!machine.label.startsWith(labelPrefix)) continue;
        const row = await findLedgerByLabel(db, machine.label);
        if (row !== undefined && row.goneAtMs === null) continue;
        log.warn(
          { event: 'sweeper.stranger', provider: provider.name, ref: machine.ref, label: machine.label },
          'destroying a machine that no open ledger row explains',
        );
        await provider.destroy(machine.ref, { signal });
      }
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      const { code, message } = toDumontError(error);
      log.warn(
        { event: 'sweeper.list', provider: provider.name, code, message },
        'could not list machines, will try again',
      );
    }
  }
}

async function findByLabel(
  provider: Provider,
  label: string,
  signal: AbortSignal,
): Promise<ProviderMachine | undefined> {
  const machines = await provider.list({ signal });
  return machines.find((machine) => machine.label === label);
}
