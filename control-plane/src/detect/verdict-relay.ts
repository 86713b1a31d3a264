import type { Verdict } from './verdict.ts';

/** Hands verdicts to a receiver that is built after the detector; those before it are not lost. */
export class VerdictRelay {
  #receiver: ((verdict: Verdict) => void) | undefined;
  #early: Verdict[] = [];

  readonly pass = (verdict: Verdict): void => {
    if (this.#receiver === undefined) this.#early.push(verdict);
    else this.#receiver(verdict);
  };

  to(receiver: (verdict: Verdict) => void): void {
    this.#receiver = receiver;
    for (const verdict of this.#early.splice(0)) receiver(verdict);
  }
}
