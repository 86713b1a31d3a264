import type { Offer } from '@dumont/shared/model/offer.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { orAborted } from './or-aborted.ts';
import type { VastApi } from './vast-api.ts';
import { searchBody, spotOffer } from './vast-offers.ts';
import type { VastAsk } from './vast-schemas.ts';

/** The server's own bound of a page, whatever is asked for. */
const PAGE = 64;

/** The cheapest 192. */
const MAX_PAGES = 3;

/** With three pages a search, ten calls a minute are three searches: one every twenty seconds never waits. */
const FRESH_MS = 20_000;

/** Of one search: a minute of waiting for its turn, and the time of three answers. */
const SEARCH_TIMEOUT_MS = 120_000;

/** Offers known to be gone; beyond this the oldest are forgotten, and cost one refused order each. */
const MAX_TAKEN = 1_000;

/** The offers of the market, searched for no more often than Vast allows: who asks in between gets the last listing. */
export class VastListing {
  readonly #parts: { readonly api: VastApi; readonly clock: Clock; readonly diskGb: number };
  readonly #taken = new Set<string>();
  #offers: readonly Offer[] = [];
  #searchedMs = -Infinity;
  #search: Promise<void> | null = null;

  constructor(parts: { readonly api: VastApi; readonly clock: Clock; readonly diskGb: number }) {
    this.#parts = parts;
  }

  /** At most twenty seconds old, without those known to be gone. */
  async offers({ signal }: { readonly signal: AbortSignal }): Promise<readonly Offer[]> {
    signal.throwIfAborted();
    if (this.#parts.clock.monotonicMs() - this.#searchedMs >= FRESH_MS) await this.#refresh(signal);
    return this.#offers.filter(({ offerId }) => !this.#taken.has(offerId));
  }

  /** The offer is rented or withdrawn: nobody needs to try it. */
  take(offerId: string): void {
    this.#taken.add(offerId);
    for (const oldest of this.#taken) {
      if (this.#taken.size <= MAX_TAKEN) break;
      this.#taken.delete(oldest);
    }
  }

  /** Our machine on this offer is gone, so it may be offered again. */
  putBack(offerId: string): void {
    this.#taken.delete(offerId);
  }

  /** Who asks while a search is under way waits for that; who gives up leaves it to the others. */
  async #refresh(signal: AbortSignal): Promise<void> {
    this.#search ??= this.#searchAll().finally(() => {
      this.#search = null;
    });
    await orAborted(this.#search, signal);
  }

  async #searchAll(): Promise<void> {
    const { api, clock, diskGb } = this.#parts;
    using deadline = new Deadline(clock, SEARCH_TIMEOUT_MS);
    const { signal } = deadline;
    const asks = new Map<number, VastAsk>();
    let aboveMinBidUsd: number | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const { asks: found, rowCount } = await api.search(searchBody({ diskGb, aboveMinBidUsd, limit: PAGE }), {
        signal,
      });
      for (const ask of found) asks.set(ask.id, ask);
      const dearest = Math.max(...found.map((ask) => ask.min_bid));
      // A page that goes no further would come again and again.
      if (rowCount < PAGE || dearest <= (aboveMinBidUsd ?? -1)) break;
      aboveMinBidUsd = dearest;
    }
    this.#offers = [...asks.values()].map((ask) => spotOffer(ask, diskGb)).filter((offer) => offer !== undefined);
    this.#searchedMs = clock.monotonicMs();
  }
}
