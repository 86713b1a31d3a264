import type { ChunkLocation } from '../pack-writer.ts';
import type { ChunkCoder, ChunkHint } from '../planes/chunk-coder.ts';
import type { ChunkClaims } from './chunk-claims.ts';
import { PackBuilder, type FullPack } from './pack-builder.ts';

/** Where full packs go and empty buffers come from. */
export interface PackOutlet {
  /** Takes the pack and its buffer over. */
  send(pack: FullPack): void;
  /** An empty buffer, as soon as there is one. Rejects when there will be none any more. */
  takeBuffer(): Promise<ArrayBuffer>;
}

/** A chunk to be stored. */
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
   * @param baseOf asked once, for a chunk that is new only; its bytes need to hold until the next call of any
   * @returns null when it is done, else when it will be: there is no room before, and the bytes must stay as they are
   */
  write(chunk: ChunkToWrite, baseOf?: () => BaseChunk | null): Promise<void> | null {
    if (!this.#claims.claim(chunk.chunkId)) return null;
    if (this.#pack?.fits(chunk.raw.length) !== true) return this.#writeLater(chunk, baseOf);
    this.#place(this.#pack, chunk, baseOf);
    return null;
  }

  /** Hands the pack over that is being filled. */
  flush(): void {
    if (this.#pack === null) return;
    const pack = this.#pack.close();
    this.#pack = null;
    this.#outlet.send(pack);
  }

  async #writeLater(chunk: ChunkToWrite, baseOf: (() => BaseChunk | null) | undefined): Promise<void> {
    while (this.#pack?.fits(chunk.raw.length) !== true) {
      this.#rotation ??= this.#rotate();
      await this.#rotation;
    }
    this.#place(this.#pack, chunk, baseOf);
  }

  #place(pack: PackBuilder, chunk: ChunkToWrite, baseOf: (() => BaseChunk | null) | undefined): void {
    const base = baseOf?.() ?? null;
    const location = pack.add(chunk, this.#coder, { elementBytes: chunk.elementBytes, base: base?.raw });
    this.#onLocated(location.codec === 'delta' && base !== null ? { ...location, baseId: base.chunkId } : location);
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
