import { availableParallelism } from 'node:os';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { CodingOptions } from './chunk-coder.ts';

/** What the codecs make of data, bytes of raw data per second on one core, and how many times smaller. */
interface CodecRate {
  readonly encodeBytesPerSecond: number;
  readonly ratio: number;
}

/**
 * Of half weights and half text, measured by `tests/bench/codecs.ts` on a core of a 2.5 GHz server: bfloat16 shrinks 1.40
 * times at 1.1 GB/s (fast) and 1.50 times at 0.75 GB/s (small), source text 2.8 times at 0.35 and 4.1 times at 0.3 GB/s.
 */
const RATES: Readonly<Record<CodingOptions['effort'], CodecRate>> = {
  fast: { encodeBytesPerSecond: 530e6, ratio: 1.87 },
  small: { encodeBytesPerSecond: 430e6, ratio: 2.2 },
};

/**
 * Which effort gets a snapshot into the store sooner: a snapshot is as fast as the slower of the cores that pack it and the
 * link that takes what they made. Where both are alike the smaller one, which also restores over less. Pure.
 * @param options.linkBytesPerSecond to the store, above 0; Infinity for a local folder
 * @param options.cores that may pack at the same time, at least 1
 */
export function effortFor({
  linkBytesPerSecond,
  cores,
}: {
  readonly linkBytesPerSecond: number;
  readonly cores: number;
}): CodingOptions['effort'] {
  const rawBytesPerSecond = ({ encodeBytesPerSecond, ratio }: CodecRate) =>
    Math.min(encodeBytesPerSecond * cores, linkBytesPerSecond * ratio);
  return rawBytesPerSecond(RATES.small) >= rawBytesPerSecond(RATES.fast) ? 'small' : 'fast';
}

/** Assumed of a link before anything has been sent over it, 1 Gbit/s. */
const UNKNOWN_LINK_BYTES_PER_SECOND = 125e6;

/** {@link effortFor} a store on this machine: `fast` for a folder, else by the link as far as it was measured. */
export function linkEffort(
  { kind }: Pick<StorageGrant, 'kind'>,
  { uploadBytesPerSecond }: { readonly uploadBytesPerSecond: number | null },
): CodingOptions['effort'] {
  const linkBytesPerSecond = kind === 'file' ? Infinity : (uploadBytesPerSecond ?? UNKNOWN_LINK_BYTES_PER_SECOND);
  return effortFor({ linkBytesPerSecond, cores: availableParallelism() });
}
