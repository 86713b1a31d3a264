import { assert } from '@dumont/shared/util/assert.ts';

/** Decides who stores a chunk: for each id one caller, and none when the store has it. */
export interface ChunkClaims {
  /** True when the caller is to store it. */
  claim(chunkId: string): boolean;
}

/** Claims of one thread. */
export class LocalClaims implements ChunkClaims {
  readonly #isKnown: (chunkId: string) => boolean;
  readonly #claimed = new Set<string>();

  constructor(isKnown: (chunkId: string) => boolean) {
    this.#isKnown = isKnown;
  }

  claim(chunkId: string): boolean {
    if (this.#claimed.has(chunkId) || this.#isKnown(chunkId)) return false;
    this.#claimed.add(chunkId);
    return true;
  }
}

/** A slot holds the first 16 bytes of an id: enough that two different chunks never share them by chance. */
const SLOT_WORDS = 4;
const SLOT_BYTES = 4 * SLOT_WORDS;
/** Slots for each expected id: with fewer, searches get long. */
const SLOTS_PER_ID = 1.5;
const MIN_SLOTS = 1_024;
/** Longest search for a free slot; in a set that is not overfull they end far earlier. */
const MAX_PROBES = 512;

/**
 * Claims of several threads: a set of ids in shared memory, open addressing, never shrinking. A slot is taken by comparing and
 * swapping its first word and readable from when its last is set; both are never zero in use.
 *
 * It may be given more ids than it was made for: those that find no place are then claimed by every thread once. The same
 * chunk may be stored more than once then, which costs space and nothing else.
 */
export class SharedClaims implements ChunkClaims {
  /** To be given to other threads. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #slots: number;
  readonly #overflow = new Set<string>();
  readonly #idBytes = Buffer.alloc(SLOT_BYTES);
  readonly #id = new Int32Array(this.#idBytes.buffer, this.#idBytes.byteOffset, SLOT_WORDS);

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#slots = this.#words.length / SLOT_WORDS;
  }

  /** An empty set for so many ids. */
  static withRoomFor(count: number): SharedClaims {
    const slots = Math.max(MIN_SLOTS, Math.ceil(count * SLOTS_PER_ID));
    return new SharedClaims(new SharedArrayBuffer(slots * SLOT_BYTES));
  }

  /** Ids it has room for. */
  get capacity(): number {
    return Math.floor(this.#slots / SLOTS_PER_ID);
  }

  claim(chunkId: string): boolean {
    assert(this.#idBytes.write(chunkId, 0, SLOT_BYTES, 'hex') === SLOT_BYTES, 'a chunk id is hexadecimal');
    const [first = 0, second = 0, third = 0, fourth = 0] = this.#id;
    const [tag, seal] = [first | 1, fourth | 1];
    let slot = Math.floor(((first >>> 0) / 2 ** 32) * this.#slots);
    for (let probe = 0; probe < MAX_PROBES; probe += 1) {
      const at = slot * SLOT_WORDS;
      const found = Atomics.compareExchange(this.#words, at, 0, tag);
      if (found === 0) {
        Atomics.store(this.#words, at + 1, second);
        Atomics.store(this.#words, at + 2, third);
        Atomics.store(this.#words, at + 3, seal);
        return true;
      }
      if (found === tag) {
        // Whoever took the slot is between two instructions of its own.
        while (Atomics.load(this.#words, at + 3) === 0);
        if (this.#words[at + 1] === second && this.#words[at + 2] === third && this.#words[at + 3] === seal)
          return false;
      }
      slot = slot + 1 === this.#slots ? 0 : slot + 1;
    }
    if (this.#overflow.has(chunkId)) return false;
    this.#overflow.add(chunkId);
    return true;
  }
}
