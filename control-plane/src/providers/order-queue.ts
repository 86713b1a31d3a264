/**
 * Orders at a provider that cannot be told that two orders are one: carried out one after another, so that the later one
 * finds what the earlier one left. One object per account and process.
 */
export class OrderQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** The work's outcome, once everything before it has ended in whatever way. */
  run<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
