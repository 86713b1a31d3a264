import { MAX_CHUNK_BYTES } from '../cdc/cut-window.ts';
import { chunkIdOf, type StoreSecrets } from '../seal.ts';

/** Longest chunk, all zeros: what long runs of zeros are cut into. */
const ZEROS = Buffer.alloc(MAX_CHUNK_BYTES);

/** Ids of the chunks of one store. Runs of zeros, frequent in databases and optimizer states, are not hashed again. */
export class ChunkIds {
  readonly #secrets: StoreSecrets | null;
  #zerosId: string | undefined;

  constructor(secrets: StoreSecrets | null) {
    this.#secrets = secrets;
  }

  idOf(raw: Buffer): string {
    if (raw.length !== MAX_CHUNK_BYTES || raw[0] !== 0 || !raw.equals(ZEROS)) return chunkIdOf(raw, this.#secrets);
    this.#zerosId ??= chunkIdOf(raw, this.#secrets);
    return this.#zerosId;
  }
}
