import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import type { VastApi } from './vast-api.ts';
import type { VastInstance } from './vast-schemas.ts';

/** Of one look, its turns at a throttled provider included: then whoever waits hears that there is no answer. */
const LOOK_TIMEOUT_MS = 60_000;

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

  constructor(api: VastApi, clock: Clock) {
    this.#api = api;
    this.#clock = clock;
  }

  /** The instance as Vast saw it at some time after this call; null when it is not visible. */
  async look(id: number, { signal }: { readonly signal: AbortSignal }): Promise<VastInstance | null> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<VastInstance | null>();
    this.#waiting.set(id, [...(this.#waiting.get(id) ?? []), { resolve, reject }]);
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (!this.#isLooking) void this.#lookForAll();
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
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
    if (ids.length === 1 && only !== undefined) {
      const instance = await this.#api.instance(only, { signal });
      return new Map(instance === null ? [] : [[only, instance]]);
    }
    return new Map((await this.#api.instances({ signal })).map((instance) => [instance.id, instance]));
  }
}
