import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { backoffMs, type BackoffPolicy } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { toDumontError, type DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { GrantHolder, GrantIssuer } from './grant-issuer.ts';

/** Where assignments get their storage from. */
export interface GrantSource {
  /**
   * A grant for this instance, or null when there is none now: one follows as soon as it is made. Whether the instance may
   * have one is the caller's to decide.
   */
  grantFor(holder: GrantHolder): Promise<StorageGrant | null>;
  /** The instance lost its right: nothing more is made for it, and what it has ends where the service can end it. */
  end(instanceId: InstanceId): void;
}

/** An admission waits five seconds in all; an agent without a grant can be welcomed and get it later. */
const FIRST_GRANT_WAIT_MS = 3_000;
const MINT_TIMEOUT_MS = 20_000;
const RETRY: BackoffPolicy = { baseMs: 1_000, capMs: 60_000 };
/** How often what may be held no longer is looked for, besides right after a fence. */
const REVOKE_PERIOD_MS = 60_000;

export interface GrantBookOptions {
  readonly issuer: GrantIssuer;
  /** False once the instance is fenced, given back or not connected: then nothing is renewed. */
  readonly mayHold: (instanceId: InstanceId) => Promise<boolean>;
  /** A grant was made that its agent has not been told of. */
  readonly onRenewed: (instanceId: InstanceId) => Promise<void>;
  /** Making a grant began to fail, or works again; once per episode. */
  readonly onTrouble: (trouble: GrantTrouble) => Promise<void>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export interface GrantTrouble {
  readonly kind: 'failed' | 'recovered';
  readonly holder: GrantHolder;
  readonly way: GrantIssuer['way'];
  /** Why; null when it recovered. */
  readonly error: DumontError | null;
  /** When what the agent has ends; null when it has none. */
  readonly expiresAtMs: number | null;
}

interface Entry {
  readonly holder: GrantHolder;
  grant: StorageGrant | null;
  /** Wall time. */
  renewAtMs: number;
  minting: Promise<void> | null;
  failures: number;
  cancelTimer: () => void;
}

/**
 * The grants of all connected instances: one each, made when first asked for, renewed at half of its life for as long as
 * the instance may hold it. While none can be made, agents keep what they have, and it is tried again with growing waits.
 */
export class GrantBook implements GrantSource, AsyncDisposable {
  readonly #options: GrantBookOptions;
  /** As many as instances that said hello and were not fenced since; each renewal drops those that left. */
  readonly #entries = new Map<InstanceId, Entry>();
  readonly #closing = new AbortController();
  readonly #background = new Set<Promise<void>>();
  readonly #cancelPeriod: () => void;
  #isRevoking = false;
  #isRevokingDue = false;

  constructor(options: GrantBookOptions) {
    this.#options = options;
    this.#cancelPeriod = options.clock.every(REVOKE_PERIOD_MS, () => this.#revoke());
  }

  async grantFor(holder: GrantHolder): Promise<StorageGrant | null> {
    const { clock } = this.#options;
    const entry = this.#entries.get(holder.instanceId) ?? this.#open(holder);
    const { failures } = entry;
    if (clock.nowMs() >= entry.renewAtMs && failures === 0) entry.minting ??= this.#mint(entry);
    const usable = this.#usable(entry);
    if (usable !== null || entry.minting === null) return usable;
    const waiting = new AbortController();
    await Promise.race([entry.minting, clock.sleep(FIRST_GRANT_WAIT_MS, waiting.signal).catch(() => {})]);
    waiting.abort();
    return this.#usable(entry);
  }

  end(instanceId: InstanceId): void {
    this.#drop(instanceId);
    this.#revoke();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#cancelPeriod();
    for (const instanceId of this.#entries.keys()) this.#drop(instanceId);
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  #open(holder: GrantHolder): Entry {
    const entry = { holder, grant: null, renewAtMs: -Infinity, minting: null, failures: 0, cancelTimer: () => {} };
    this.#entries.set(holder.instanceId, entry);
    return entry;
  }

  #drop(instanceId: InstanceId): void {
    this.#entries.get(instanceId)?.cancelTimer();
    this.#entries.delete(instanceId);
  }

  #isCurrent(entry: Entry): boolean {
    return this.#entries.get(entry.holder.instanceId) === entry && !this.#closing.signal.aborted;
  }

  #usable({ grant }: Entry): StorageGrant | null {
    if (grant === null) return null;
    const expiresAtMs = expiryOf(grant);
    return expiresAtMs !== null && expiresAtMs <= this.#options.clock.nowMs() ? null : grant;
  }

  /** Never rejects. */
  #mint(entry: Entry): Promise<void> {
    return this.#inBackground(async () => {
      const { issuer, clock } = this.#options;
      const isFirst = entry.grant === null && entry.failures === 0;
      try {
        const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(MINT_TIMEOUT_MS)]);
        const askedAtMs = clock.nowMs();
        const grant = await issuer.issue(entry.holder, { signal });
        if (!this.#isCurrent(entry)) {
          // Fenced while it was made: nobody was told of it.
          this.#revoke();
          return;
        }
        await this.#settle(entry, grant, askedAtMs);
        // Whoever asked first is waiting for it; after a failure, or for a renewal, the agent has to be told.
        if (!isFirst || clock.nowMs() - askedAtMs >= FIRST_GRANT_WAIT_MS) await this.#tell(entry);
      } catch (error) {
        if (this.#isCurrent(entry)) await this.#fail(entry, toDumontError(error));
      } finally {
        entry.minting = null;
      }
    });
  }

  async #settle(entry: Entry, grant: StorageGrant, askedAtMs: number): Promise<void> {
    const { clock } = this.#options;
    const hadFailed = entry.failures > 0;
    entry.grant = grant;
    entry.failures = 0;
    const expiresAtMs = expiryOf(grant);
    entry.renewAtMs = expiresAtMs === null ? Infinity : askedAtMs + (expiresAtMs - askedAtMs) / 2;
    if (expiresAtMs !== null) this.#schedule(entry, Math.max(0, entry.renewAtMs - clock.nowMs()));
    if (hadFailed) await this.#tellTrouble(entry, null);
  }

  async #fail(entry: Entry, error: DumontError): Promise<void> {
    const { random, log, issuer } = this.#options;
    const retryInMs = backoffMs(entry.failures, RETRY, random);
    entry.failures += 1;
    const { instanceId } = entry.holder;
    this.#schedule(entry, retryInMs);
    log.warn({ event: 'grant-failed', instanceId, way: issuer.way, err: error, retryInMs }, 'no grant could be made');
    if (entry.failures === 1) await this.#tellTrouble(entry, error);
  }

  #schedule(entry: Entry, afterMs: number): void {
    entry.cancelTimer();
    entry.cancelTimer = this.#options.clock.after(afterMs, () => void this.#inBackground(() => this.#renew(entry)));
  }

  async #renew(entry: Entry): Promise<void> {
    const { instanceId } = entry.holder;
    try {
      if (!this.#isCurrent(entry)) return;
      if (!(await this.#options.mayHold(instanceId))) {
        if (this.#isCurrent(entry)) this.#drop(instanceId);
        return;
      }
    } catch (error) {
      if (this.#isCurrent(entry)) await this.#fail(entry, toDumontError(error));
      return;
    }
    if (this.#isCurrent(entry)) await (entry.minting ??= this.#mint(entry));
  }

  async #tell(entry: Entry): Promise<void> {
    const { onRenewed, log } = this.#options;
    const { instanceId } = entry.holder;
    try {
      await onRenewed(instanceId);
    } catch (error) {
      // It hears of the grant with its next assignment; a renewal comes long before the one it has ends.
      log.warn({ event: 'grant-not-told', instanceId, err: error }, 'an agent was not told of its new grant');
    }
  }

  async #tellTrouble({ holder, grant }: Entry, error: DumontError | null): Promise<void> {
    const { onTrouble, issuer, log } = this.#options;
    const expiresAtMs = grant === null ? null : expiryOf(grant);
    const kind = error === null ? 'recovered' : 'failed';
    try {
      await onTrouble({ kind, holder, way: issuer.way, error, expiresAtMs });
    } catch (failure) {
      log.error({ event: 'grant-trouble-untold', err: failure }, 'trouble with grants could not be written down');
    }
  }

  /** One round at a time; what comes up during a round is for the next. */
  #revoke(): void {
    const { issuer, log } = this.#options;
    if (issuer.revokeForgotten === undefined || this.#closing.signal.aborted) return;
    this.#isRevokingDue = true;
    if (this.#isRevoking) return;
    this.#isRevoking = true;
    void this.#inBackground(async () => {
      try {
        while (this.#isRevokingDue && !this.#closing.signal.aborted) {
          this.#isRevokingDue = false;
          const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(REVOKE_PERIOD_MS)]);
          await issuer.revokeForgotten?.({ signal });
        }
      } catch (error) {
        log.warn({ event: 'revoke-failed', way: issuer.way, err: toDumontError(error) }, 'keys were not deleted yet');
      } finally {
        this.#isRevoking = false;
      }
    });
  }

  #inBackground(work: () => Promise<void>): Promise<void> {
    const running = work().finally(() => this.#background.delete(running));
    this.#background.add(running);
    return running;
  }
}

function expiryOf(grant: StorageGrant): number | null {
  return grant.kind === 's3' ? (grant.expiresAtMs ?? null) : null;
}
