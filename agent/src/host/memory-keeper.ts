import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** An agent at rest has less; what is above was needed for a moment. */
const RESTING_HEAP_BYTES = 40 * 1024 * 1024;
/** What is alive is not collected over and over: the heap has to have grown by half since. */
const GROWTH = 1.5;

type Collect = (options: {
  readonly type: 'major';
  readonly execution: 'sync';
  readonly flavor: 'last-resort';
}) => void;

/**
 * Gives memory back to the system after work that took much of it. An idle process allocates so little that V8 would keep
 * the room for hours. Blocks this thread for as long as it takes to mark what is alive, some 50 ms; most calls find
 * nothing to do.
 */
export class MemoryKeeper {
  readonly #collect: Collect;
  #heapAfterBytes = 0;

  constructor() {
    // The function is there for contexts made while the flag is set; nothing else sees it.
    setFlagsFromString('--expose-gc');
    this.#collect = runInNewContext('gc') as Collect;
    setFlagsFromString('--no-expose-gc');
  }

  release(): void {
    if (getHeapStatistics().total_heap_size <= Math.max(RESTING_HEAP_BYTES, GROWTH * this.#heapAfterBytes)) return;
    // What ran once, at the start or in a snapshot, is compiled again should it run again.
    setFlagsFromString('--stress-flush-code');
    this.#collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    setFlagsFromString('--no-stress-flush-code');
    this.#heapAfterBytes = getHeapStatistics().total_heap_size;
  }
}
