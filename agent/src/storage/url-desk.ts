import { MAX_SIGNED_REQUESTS, type SignAnswer, type StoreRequest } from '@dumont/shared/protocol/signed-request.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

/**
 * Has the control plane sign requests, in order.
 * @throws {DumontError} UNAVAILABLE, retryable, while it does not answer; UNAUTHORIZED when it refuses
 */
export type SignRequests = (requests: readonly StoreRequest[]) => Promise<SignAnswer>;

/** While these are under way, what else is asked for becomes one batch. */
const MAX_CALLS = 2;

interface Waiting {
  readonly request: StoreRequest;
  readonly resolve: (url: string) => void;
  readonly reject: (error: unknown) => void;
}

/** Collects requests to be signed into few calls. As many wait as its callers make at a time. */
export class UrlDesk {
  readonly #sign: SignRequests;
  #waiting: Waiting[] = [];
  #calls = 0;

  constructor(sign: SignRequests) {
    this.#sign = sign;
  }

  /** A URL good for minutes: use it at once. @throws what {@link SignRequests} throws */
  urlFor(request: StoreRequest): Promise<string> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ request, resolve, reject });
      // After the present turn, so that what is asked for together goes together.
      queueMicrotask(() => this.#pump());
    });
  }

  #pump(): void {
    if (this.#calls >= MAX_CALLS || this.#waiting.length === 0) return;
    const batch = this.#waiting.slice(0, MAX_SIGNED_REQUESTS);
    this.#waiting = this.#waiting.slice(batch.length);
    this.#calls += 1;
    void this.#serve(batch).finally(() => {
      this.#calls -= 1;
      this.#pump();
    });
  }

  /** Never rejects: each of the batch hears of a failure. */
  async #serve(batch: readonly Waiting[]): Promise<void> {
    try {
      const { urls } = await this.#sign(batch.map(({ request }) => request));
      for (const [index, { resolve, reject }] of batch.entries()) {
        const url = urls[index];
        if (url === undefined)
          reject(new DumontError('PROTOCOL', 'the control plane signed fewer requests than asked'));
        else resolve(url);
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}
