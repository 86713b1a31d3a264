import { DumontError } from '@dumont/shared/util/errors.ts';
import type { BandwidthLimits } from '../storage/paced-store.ts';
import type { FlagSpec, ParsedArguments } from './arguments.ts';
import { sizeOf } from './flag-values.ts';

/** Slower than this a snapshot never ends: surely a unit was forgotten. */
const MIN_BYTES_PER_SECOND = 1_024;

/** Flags of every command that moves data; spread them into its specification. */
export const LIMIT_FLAGS: Readonly<Record<'limit-upload' | 'limit-download', FlagSpec>> = {
  'limit-upload': { value: 'rate', help: 'Most bytes a second to the store, such as 10MB or 8MiB.' },
  'limit-download': { value: 'rate', help: 'Most bytes a second from the store.' },
};

/** The caps those flags ask for. @throws {DumontError} USAGE */
export function limitsOf(args: ParsedArguments): BandwidthLimits {
  const rateOf = (flag: keyof typeof LIMIT_FLAGS) => {
    const text = args.text(flag);
    return text === undefined ? undefined : parseByteRate(flag, text);
  };
  return { uploadBytesPerSecond: rateOf('limit-upload'), downloadBytesPerSecond: rateOf('limit-download') };
}

/** A size and `/s` or not: `500kB`, `10MB`, `1.5MiB/s`. @throws {DumontError} USAGE naming the flag */
export function parseByteRate(flag: string, text: string): number {
  const rate = sizeOf(text.replace(/\/s$/i, ''));
  if (rate !== null && rate >= MIN_BYTES_PER_SECOND) return rate;
  throw new DumontError('USAGE', `--${flag} ${text}: it must be bytes a second, at least 1KiB`, {
    field: flag,
    hint: `For example --${flag} 10MB for ten million bytes a second.`,
  });
}
