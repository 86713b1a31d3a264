import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';
import type { ByteSource } from '../../snapshot/byte-source.ts';
import { ggufLength, looksLikeGguf } from '../../snapshot/tensor/gguf.ts';
import { HeaderReader, MAX_HEADER_PART_BYTES, readLength } from '../../snapshot/tensor/header-reader.ts';
import { endsAsZip, looksLikeZip } from '../../snapshot/tensor/torch-zip.ts';

/** Whether a file is all there, as far as its own format tells. */
export type Judgement =
  | { readonly kind: 'whole' }
  | { readonly kind: 'incomplete'; readonly reason: string }
  /** Its format does not say. */
  | { readonly kind: 'unknown' };

const WHOLE: Judgement = { kind: 'whole' };
const UNKNOWN: Judgement = { kind: 'unknown' };
/** Enough of a file to tell its format by. */
const START_BYTES = 16;
const SAFETENSORS_PREFIX_BYTES = 8;

/** Where each tensor ends, relative to the end of the header; everything else of a header does not matter here. */
const headerSchema = z.record(
  z.string(),
  z.object({ data_offsets: z.tuple([z.int().min(0), z.int().min(0)]).optional() }),
);

/**
 * Looks at the head and the end of a checkpoint file. A format that says how long its file is tells whether it is whole;
 * what is in between is not read, and a file that was allocated in full before it was written looks whole.
 * @param scratch overwritten; {@link MAX_HEADER_PART_BYTES} at least
 * @throws the system's error when it cannot be read
 */
export function judgeFile(path: string, scratch: Buffer): Judgement {
  const file = openSync(path, 'r');
  try {
    const source: ByteSource = {
      sizeBytes: fstatSync(file).size,
      read: (into, offset) => readSync(file, into, 0, into.length, offset),
    };
    return judge(source, { scratch, isSafetensors: path.endsWith('.safetensors') });
  } finally {
    closeSync(file);
  }
}

/** @param options.isSafetensors by its name: the format has no mark of its own */
function judge(source: ByteSource, options: { readonly scratch: Buffer; readonly isSafetensors: boolean }): Judgement {
  const { sizeBytes } = source;
  if (sizeBytes === 0) return incomplete('it is empty');
  const reader = new HeaderReader(source, options.scratch);
  if (options.isSafetensors) return judgeSafetensors(reader);
  const start = reader.read(0, START_BYTES);
  if (start === null) return UNKNOWN;
  if (looksLikeZip(start)) {
    return endsAsZip(reader) ? WHOLE : incomplete('it does not end with the directory that is written last');
  }
  if (!looksLikeGguf(start)) return UNKNOWN;
  const length = ggufLength(reader);
  if (length === null) return incomplete('its table of tensors is not all there');
  return sizeBytes < length ? tooShort(sizeBytes, length) : WHOLE;
}

function judgeSafetensors(reader: HeaderReader): Judgement {
  const { sizeBytes } = reader;
  const prefix = reader.read(0, SAFETENSORS_PREFIX_BYTES);
  const headerBytes = prefix === null ? Number.POSITIVE_INFINITY : readLength(prefix, 0);
  const dataOffset = SAFETENSORS_PREFIX_BYTES + headerBytes;
  if (dataOffset > sizeBytes || headerBytes === 0) return incomplete('its header is not all there');
  if (headerBytes > MAX_HEADER_PART_BYTES) return UNKNOWN;
  const text = reader.read(SAFETENSORS_PREFIX_BYTES, headerBytes)?.toString('utf8');
  const header = headerSchema.safeParse(tryParseJson(text ?? ''));
  if (!header.success) return incomplete('its header cannot be read');
  const ends = Object.values(header.data).map(({ data_offsets: offsets }) => offsets?.[1] ?? 0);
  const length = dataOffset + ends.reduce((longest, end) => Math.max(longest, end), 0);
  return sizeBytes < length ? tooShort(sizeBytes, length) : WHOLE;
}

function incomplete(reason: string): Judgement {
  return { kind: 'incomplete', reason };
}

function tooShort(sizeBytes: number, length: number): Judgement {
  return incomplete(`it has ${sizeBytes} of ${length} bytes`);
}
