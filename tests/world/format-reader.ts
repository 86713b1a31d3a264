import { createDecipheriv } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { xxh32 } from '@dumont/shared/format/xxh32.ts';

/**
 * A second reader of packs, written from control-plane/docs/FORMAT.md alone, slow and plain: what our encoder and
 * decoder agree on could still be something else than the document says. It trusts its input.
 */
export interface ReadChunk {
  readonly chunkId: string;
  readonly codec: number;
  readonly raw: Buffer;
}

export interface ReadOptions {
  /** By chunk id: the base of a difference, an earlier chunk of the pack. */
  readonly baseOf?: ReadonlyMap<string, string>;
  /** Key of the frames of an encrypted store. */
  readonly frameKey?: Buffer;
}

/** Every chunk a pack's index lists, unpacked. */
export function readPack(pack: Buffer, { baseOf = new Map(), frameKey }: ReadOptions = {}): readonly ReadChunk[] {
  const trailer = pack.subarray(-16);
  const indexAt = trailer.readUInt32LE(0);
  const index = pack.subarray(indexAt, indexAt + trailer.readUInt32LE(4));
  if (xxh32(index) !== trailer.readUInt32LE(8)) throw new Error('the checksum of the index is wrong');
  const chunks: ReadChunk[] = [];
  for (let at = 0; at < index.length; at += 48) {
    const chunkId = index.toString('hex', at, at + 32);
    const offset = index.readUInt32LE(at + 32);
    const stored = pack.subarray(offset, offset + index.readUInt32LE(at + 36));
    const frame = frameKey === undefined ? stored : openSealed(stored, frameKey);
    const codec = index.readUInt32LE(at + 44);
    const base = chunks.find((chunk) => chunk.chunkId === baseOf.get(chunkId))?.raw;
    const raw = readChunk(frame, codec, base);
    if (raw.length !== index.readUInt32LE(at + 40)) throw new Error('the index tells another length');
    chunks.push({ chunkId, codec, raw });
  }
  return chunks;
}

/** One chunk from its frame. */
export function readChunk(frame: Buffer, codec: number, base: Buffer = Buffer.alloc(0)): Buffer {
  switch (codec) {
    case 0:
    case 1:
      return readFrame(frame);
    case 2:
      return joinPlanes(readFrame(frame));
    case 3:
      return readZstd(frame);
    case 4:
      return joinPlanes(readZstd(frame));
    case 5:
      return Buffer.from(joinPlanes(readFrame(frame)).map((byte, index) => byte ^ (base[index] ?? 0)));
    default:
      throw new Error('the codec is unknown');
  }
}

function readZstd(frame: Buffer): Buffer {
  if (frame.readUInt32LE(0) !== 0x184d2a51 || frame.readUInt32LE(4) !== frame.length - 8)
    throw new Error('no Zstandard');
  return zstdDecompressSync(frame.subarray(8));
}

function openSealed(frame: Buffer, key: Buffer): Buffer {
  if (frame.readUInt32LE(0) !== 0x184d2a52 || frame.readUInt32LE(4) !== frame.length - 8) throw new Error('not sealed');
  const decipher = createDecipheriv('aes-256-gcm', key, frame.subarray(8, 20));
  decipher.setAuthTag(frame.subarray(-16));
  return Buffer.concat([decipher.update(frame.subarray(20, -16)), decipher.final()]);
}

/** What a frame unpacks to, its checksum compared. */
export function readFrame(frame: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 15;
  for (let word = frame.readUInt32LE(at); word !== 0; word = frame.readUInt32LE(at)) {
    const length = word & 0x7fff_ffff;
    const block = frame.subarray(at + 4, at + 4 + length);
    parts.push(word >= 0x8000_0000 ? block : readBlock(block));
    at += 4 + length;
  }
  const content = Buffer.concat(parts);
  if (content.length !== Number(frame.readBigUInt64LE(6))) throw new Error('the frame tells another content size');
  if (xxh32(content) !== frame.readUInt32LE(at + 4)) throw new Error('the content checksum is wrong');
  return content;
}

/** One LZ4 block. */
export function readBlock(block: Buffer): Buffer {
  const bytes: number[] = [];
  let at = 0;
  const readLength = (nibble: number): number => {
    if (nibble < 15) return nibble;
    let length = 15;
    for (let more = 255; more === 255;) {
      more = block[at++] ?? 0;
      length += more;
    }
    return length;
  };
  while (at < block.length) {
    const token = block[at++] ?? 0;
    const literals = readLength(token >> 4);
    bytes.push(...block.subarray(at, at + literals));
    at += literals;
    if (at >= block.length) break;
    const distance = block.readUInt16LE(at);
    at += 2;
    const length = readLength(token & 15) + 4;
    for (let done = 0; done < length; done += 1) bytes.push(bytes[bytes.length - distance] ?? 0);
  }
  return Buffer.from(bytes);
}

/** A chunk to the content of a frame of planes. */
export function splitPlanes(raw: Buffer, leadBytes: number, origins: readonly (number | null)[]): Buffer {
  const words = Math.floor((raw.length - leadBytes) / 256) * 64;
  const header = Buffer.alloc(8);
  header[0] = 1;
  header[1] = leadBytes;
  const parts = [header, raw.subarray(0, leadBytes), raw.subarray(leadBytes + 4 * words)];
  for (const [lane, origin] of origins.entries()) {
    const bytes = Buffer.alloc(words);
    for (let index = 0; index < words; index += 1) {
      const word = raw.readUInt32LE(leadBytes + 4 * index);
      const rotated = ((word << 1) | (word >>> 31)) >>> 0;
      bytes[index] = rotated >>> (8 * lane);
    }
    if (origin === null) {
      parts.push(bytes);
      continue;
    }
    header[2] = (header[2] ?? 0) | (1 << lane);
    header[4 + lane] = origin;
    for (let bit = 7; bit >= 0; bit -= 1) {
      const plane = Buffer.alloc(words / 8);
      for (const [index, byte] of bytes.entries()) {
        const distance = (origin - byte) & 0xff;
        plane[index >> 3] = (plane[index >> 3] ?? 0) | (((distance >> bit) & 1) << (index & 7));
      }
      parts.push(plane);
    }
  }
  return Buffer.concat(parts);
}

/** Inverse of {@link splitPlanes}. */
export function joinPlanes(content: Buffer): Buffer {
  const rawLength = content.length - 8;
  const lead = content[1] ?? 0;
  const words = Math.floor((rawLength - lead) / 256) * 64;
  const restLength = rawLength - 4 * words;
  const raw = Buffer.alloc(rawLength);
  content.copy(raw, 0, 8, 8 + lead);
  content.copy(raw, lead + 4 * words, 8 + lead, 8 + restLength);
  const rotated = new Uint32Array(words);
  for (let lane = 0; lane < 4; lane += 1) {
    const laneBytes = content.subarray(8 + restLength + lane * words, 8 + restLength + (lane + 1) * words);
    const isSplit = (((content[2] ?? 0) >> lane) & 1) === 1;
    for (let index = 0; index < words; index += 1) {
      let byte = laneBytes[index] ?? 0;
      if (isSplit) {
        let distance = 0;
        for (let plane = 0; plane < 8; plane += 1) {
          const bits = laneBytes[(plane * words) / 8 + (index >> 3)] ?? 0;
          distance = (distance << 1) | ((bits >> (index & 7)) & 1);
        }
        byte = ((content[4 + lane] ?? 0) - distance) & 0xff;
      }
      rotated[index] = ((rotated[index] ?? 0) | (byte << (8 * lane))) >>> 0;
    }
  }
  for (const [index, word] of rotated.entries()) {
    raw.writeUInt32LE(((word >>> 1) | (word << 31)) >>> 0, lead + 4 * index);
  }
  return raw;
}
