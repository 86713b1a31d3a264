/**
 * What goes wrong with a request: an error answer, the connection reset before any answer, or a body that ends early.
 * `lost-answer` does the work first, then resets the connection; `absent` denies that the object is there.
 */
export type FaultKind =
  | 'slow-down'
  | 'too-many'
  | 'internal'
  | 'expired-token'
  | 'reset'
  | 'truncate'
  | 'lost-answer'
  | 'absent';

/** Faults that are nothing but an error answer, and its code. */
export const FAULT_CODES: Readonly<Partial<Record<FaultKind, string>>> = {
  'slow-down': 'SlowDown',
  'too-many': 'TooManyRequests',
  internal: 'InternalError',
  'expired-token': 'ExpiredToken',
  absent: 'NoSuchKey',
};

export interface Fault {
  readonly kind: FaultKind;
  readonly method?: string;
  /** Only for keys that start so. */
  readonly keyPrefix?: string;
  /** How many matching requests it hits; 1 when absent. */
  readonly times?: number;
  /** Of an error answer: how long it asks the client to wait. */
  readonly retryAfterSeconds?: number;
}

/** A script of faults: each request takes the first that fits and is not used up. */
export class FaultScript {
  #faults: { readonly fault: Fault; left: number }[] = [];

  add(fault: Fault): void {
    this.#faults.push({ fault, left: fault.times ?? 1 });
  }

  clear(): void {
    this.#faults = [];
  }

  /** The fault for this request, used up by one. */
  take(method: string, key: string): Fault | undefined {
    const hit = this.#faults.find(
      ({ fault, left }) => left > 0 && (fault.method ?? method) === method && key.startsWith(fault.keyPrefix ?? ''),
    );
    if (hit === undefined) return undefined;
    hit.left -= 1;
    return hit.fault;
  }
}
