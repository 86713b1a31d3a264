import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { orAborted } from './or-aborted.ts';
import { LIST_PAGE, type VastApi } from './vast-api.ts';
import { VAST_LIMITS } from './vast-limits.ts';
import type { VastInstance } from './vast-schemas.ts';

/** Of one look, its turns at a throttled provider included: then whoever waits hears that there is no answer. */
const LOOK_TIMEOUT_MS = 60_000;

/**
 * A sighting serves for so long: the detector asks twice in a row, for where a machine is and for how it is, and has no
 * time to wait for the next turn. That a machine was not there serves nobody else: its end is to be seen twice.
 */
const FRESH_MS = 1_000;

/** Sightings kept; the oldest are dropped and looked for again. */
const MAX_SIGHTINGS = 1_000;

/** The least pause between two looks at single instances; in between a list of one page answers sooner. */
const SINGLE_PAUSE_MS = VAST_LIMITS.show.perMs;

type Waiter = { readonly resolve: (found: VastInstance | null) => void; readonly reject: (error: unknown) => void };

/**
 * Looks at instances for many askers at the pace that Vast allows: it shows one instance every two seconds and lists 25
 * every second, so who asks while a look is under way shares the next one, which is a list as soon as it is for two.
 */
export class VastRoster {
  readonly #api: VastApi;
  readonly #clock: Clock;
  #waiting = new Map<number, Waiter[]>();
  #isLooking = false;
  readonly #sightings = new Map<number, { readonly instance: VastInstance; readonly atMs: number }>();
  #lastSingleMs = -Infinity;
  /** As of the last list; unknown before. */
  #accountSize = Infinity;

  constructor(api: VastApi, clock: Clock) {
    this.#api = api;
    this.#clock = clock;
  }

  /** The instance as Vast saw it a second ago or later; null when it is not visible now. */
  async look(id: number, { signal }: { readonly signal: AbortSignal }): Promise<VastInstance | null> {
    signal.throwIfAborted();
    const sighting = this.#sightings.get(id);
    if (sighting !== undefined && this.#clock.monotonicMs() - sighting.atMs < FRESH_MS) return sighting.instance;
    const { promise, resolve, reject } = Promise.withResolvers<VastInstance | null>();
    this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), { resolve, reject }]);
    if (!this.#isLooking) void this.#lookForAll();
    return orAborted(promise, signal);
  }

  /** Every instance of the account, as Vast sees them now. */
  async all({ signal }: { readonly signal: AbortSignal }): Promise<readonly VastInstance[]> {
    const instances = await this.#api.instances({ signal });
    this.#accountSize = instances.length;
    this.#sightings.clear();
    for (const instance of instances) this.#note(instance);
    return instances;
  }

  /** The instance was changed: what was seen of it before is worth nothing. */
  forget(id: number): void {
    this.#sightings.delete(id);
  }

  /** Never rejects: its failures are those of who waits. */
  async #lookForAll(): Promise<void> {
    this.#isLooking = true;
    // Whoever asks in this turn of the loop as well comes along.
    await Promise.resolve();
    while (this.#waiting.size > 0) {
      const asked = this.#waiting;
      this.#waiting = new Map();
      using deadline = new Deadline(this.#clock, LOOK_TIMEOUT_MS);
      try {
        const seen = await this.#see([...asked.keys()], deadline.signal);
        for (const [id, waiters] of asked) for (const { resolve } of waiters) resolve(seen.get(id) ?? null);
      } catch (error) {
        for (const waiters of asked.values()) for (const { reject } of waiters) reject(error);
      }
    }
    this.#isLooking = false;
  }

  async #see(ids: readonly number[], signal: AbortSignal): Promise<ReadonlyMap<number, VastInstance>> {
    const [only] = ids;
    const mayBeSingle = this.#clock.monotonicMs() - this.#lastSingleMs >= SINGLE_PAUSE_MS;
    if (ids.length === 1 && only !== undefined && (mayBeSingle || this.#accountSize > LIST_PAGE)) {
      const instance = await this.#api.instance(only, { signal });
      this.#lastSingleMs = this.#clock.monotonicMs();
      if (instance === null) return new Map();
      this.#note(instance);
      return new Map([[only, instance]]);
    }
    return new Map((await this.all({ signal })).map((instance) => [instance.id, instance]));
  }

  #note(instance: VastInstance): void {
    this.#sightings.delete(instance.id);
    this.#sightings.set(instance.id, { instance, atMs: this.#clock.monotonicMs() });
    for (const oldest of this.#sightings.keys()) {
      if (this.#sightings.size <= MAX_SIGHTINGS) break;
      this.#sightings.delete(oldest);
    }
  }
}
