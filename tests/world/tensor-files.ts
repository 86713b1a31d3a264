/** A tensor to put into a file. */
export interface Tensor {
  readonly name: string;
  readonly bytes: Buffer;
}

/** A safetensors file of bf16 tensors, or of another type, with a string of metadata. */
export function safetensorsFile(tensors: readonly Tensor[], metadata = '', dtype = 'BF16', elementBytes = 2): Buffer {
  let at = 0;
  const entries = tensors.map(({ name, bytes }) => {
    const entry = { dtype, shape: [1, bytes.length / elementBytes], data_offsets: [at, at + bytes.length] };
    at += bytes.length;
    return [name, entry] as const;
  });
  const header = { __metadata__: { format: 'pt', note: metadata }, ...Object.fromEntries(entries) };
  return Buffer.concat([safetensorsHeader(JSON.stringify(header)), ...tensors.map(({ bytes }) => bytes)]);
}

/** A header's length and text, padded with spaces to a multiple of 8 as the library does. */
export function safetensorsHeader(json: string): Buffer {
  const text = Buffer.from(json);
  const padded = Buffer.alloc(Math.ceil(text.length / 8) * 8, ' ');
  text.copy(padded);
  return Buffer.concat([u64(padded.length), padded]);
}

/** What torch.save writes: stored members, data 64-byte aligned by padding in the local header, descriptors after it. */
export function torchFile(tensors: readonly Buffer[], options: { readonly zip64?: boolean } = {}): Buffer {
  const members = [
    { name: 'model/data.pkl', bytes: Buffer.alloc(3_000, 'pickle') },
    ...tensors.map((bytes, index) => ({ name: `model/data/${index}`, bytes })),
    { name: 'model/version', bytes: Buffer.from('3\n') },
  ];
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, bytes } of members) {
    const unpadded = at + 30 + name.length + 4;
    const padding = (64 - (unpadded % 64)) % 64;
    const extra = Buffer.concat([u16(0x4246), u16(padding), Buffer.alloc(padding, 'Z')]);
    const sizes = Buffer.concat([u32(0xcafe), u32(bytes.length), u32(bytes.length)]);
    const fixed = Buffer.concat([u16(0), u16(0x808), u16(0), u32(0), sizes]);
    const local = [u32(0x04034b50), fixed, u16(name.length), u16(extra.length), Buffer.from(name), extra];
    const descriptor = Buffer.concat([u32(0x08074b50), sizes]);
    const extra64 =
      options.zip64 === true
        ? Buffer.concat([u16(1), u16(24), u64(bytes.length), u64(bytes.length), u64(at)])
        : Buffer.alloc(0);
    const told = options.zip64 === true ? Buffer.alloc(8, 0xff) : sizes.subarray(4);
    const offset = options.zip64 === true ? u32(0xffff_ffff) : u32(at);
    const head = [u32(0x02014b50), u16(0), fixed.subarray(0, 14), told, u16(name.length), u16(extra64.length)];
    directory.push(...head, Buffer.alloc(10), offset, Buffer.from(name), extra64);
    const member = Buffer.concat([...local, bytes, descriptor]);
    parts.push(member);
    at += member.length;
  }
  const listing = Buffer.concat(directory);
  const count = members.length;
  const end64 = [
    u32(0x06064b50),
    u64(44),
    u32(0),
    u32(0),
    u32(0),
    u64(count),
    u64(count),
    u64(listing.length),
    u64(at),
  ];
  const locator = [u32(0x07064b50), u32(0), u64(at + listing.length), u32(1)];
  const [length, offset] =
    options.zip64 === true ? [u32(0xffff_ffff), u32(0xffff_ffff)] : [u32(listing.length), u32(at)];
  const end = [u32(0x06054b50), u32(0), u16(count), u16(count), length, offset, u16(0)];
  return Buffer.concat([...parts, listing, ...(options.zip64 === true ? [...end64, ...locator] : []), ...end]);
}

/** A GGUF file of f16 tensors with a vocabulary of so many words. */
export function ggufFile(tensors: readonly Tensor[], words = 1_000, type = 1): Buffer {
  const alignment = 64;
  const pairs = [
    [text('general.alignment'), u32(4), u32(alignment)],
    [text('general.name'), u32(8), text('a model')],
    [text('tokenizer.scores'), u32(9), u32(6), u64(words), Buffer.alloc(4 * words)],
    [
      text('tokenizer.tokens'),
      u32(9),
      u32(8),
      u64(words),
      ...Array.from({ length: words }, (_, n) => text(`word${n}`)),
    ],
  ];
  let at = 0;
  const table = tensors.map(({ name, bytes }) => {
    const row = [text(name), u32(2), u64(bytes.length / 4), u64(2), u32(type), u64(at)];
    at += Math.ceil(bytes.length / alignment) * alignment;
    return Buffer.concat(row);
  });
  const magic = Buffer.from('GGUF');
  const head = Buffer.concat([magic, u32(3), u64(tensors.length), u64(pairs.length), ...pairs.flat(), ...table]);
  return Buffer.concat([pad(head, alignment), ...tensors.map(({ bytes }) => pad(bytes, alignment))]);
}

function pad(bytes: Buffer, alignment: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((alignment - (bytes.length % alignment)) % alignment)]);
}

function text(value: string): Buffer {
  return Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
