import type { ChunkLocation } from '../pack-writer.ts';
import type { ChunkCoder, ChunkHint } from '../planes/chunk-coder.ts';
import type { ChunkClaims } from './chunk-claims.ts';
import { PackBuilder, type FullPack } from './pack-builder.ts';

/** A pack that far filled has the next buffer asked for, so that it is there when needed. */
const ASK_EARLY_FILL = 0.75;

/** Where full packs go and empty buffers come from. */
export interface PackOutlet {
  /** Takes the pack and its buffer over. */
  send(pack: FullPack): void;
  /** An empty buffer, as soon as there is one. Rejects when there will be none any more. */
  takeBuffer(): Promise<ArrayBuffer>;
  /** Tells that a buffer will be taken soon. */
  prepareBuffer(): void;
}

/** A chunk to be stored; its bytes are used until `write` returns. */
export interface ChunkToWrite {
  readonly chunkId: string;
  readonly raw: Buffer;
  readonly elementBytes?: ChunkHint['elementBytes'];
}

/** A chunk that another may be stored as the difference to. */
export interface BaseChunk {
  readonly chunkId: string;
  readonly raw: Buffer;
}

/** Encodes chunks that are new into packs, on the thread it is called on. */
export class ChunkWriter {
  readonly #coder: ChunkCoder;
  readonly #outlet: PackOutlet;
  readonly #onLocated: (location: ChunkLocation) => void;
  #claims: ChunkClaims;
  #pack: PackBuilder | null = null;
  #rotation: Promise<void> | null = null;

  constructor(
    coder: ChunkCoder,
    claims: ChunkClaims,
    sink: { readonly outlet: PackOutlet; readonly onLocated: (location: ChunkLocation) => void },
  ) {
    this.#coder = coder;
    this.#claims = claims;
    this.#outlet = sink.outlet;
    this.#onLocated = sink.onLocated;
  }

  /** From now on these decide. */
  setClaims(claims: ChunkClaims): void {
    this.#claims = claims;
  }

  /**
   * Stores the chunk unless somebody has it. Several may be under way at once.
   * @param baseOf asked for a chunk that is new only
   * @returns null when it is done, else when it will be: there is no room before
   */
  write(chunk: ChunkToWrite, baseOf?: () => BaseChunk | null): Promise<void> | null {
    const { chunkId, raw, elementBytes } = chunk;
    if (!this.#claims.claim(chunkId)) return null;
    const base = baseOf?.() ?? null;
    const encoded = this.#coder.encode(raw, { elementBytes, base: base?.raw });
    const place = (pack: PackBuilder): null => {
      const location = pack.append(chunkId, raw.length, encoded);
      this.#onLocated(encoded.codec === 'delta' && base !== null ? { ...location, baseId: base.chunkId } : location);
      if (pack.fill > ASK_EARLY_FILL) this.#outlet.prepareBuffer();
      return null;
    };
    if (this.#pack?.fits(encoded.frame.length) === true) return place(this.#pack);
    return this.#withRoom(encoded.frame.length, place);
  }

  /** Hands the pack over that is being filled. */
  flush(): void {
    if (this.#pack === null) return;
    const pack = this.#pack.close();
    this.#pack = null;
    this.#outlet.send(pack);
  }

  async #withRoom(frameLength: number, place: (pack: PackBuilder) => null): Promise<void> {
    while (this.#pack?.fits(frameLength) !== true) {
      this.#rotation ??= this.#rotate();
      await this.#rotation;
    }
    place(this.#pack);
  }

  async #rotate(): Promise<void> {
    try {
      this.flush();
      this.#pack = new PackBuilder(await this.#outlet.takeBuffer());
    } finally {
      this.#rotation = null;
    }
  }
}
