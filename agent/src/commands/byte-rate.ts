import { DumontError } from '@dumont/shared/util/errors.ts';
import type { BandwidthLimits } from '../storage/paced-store.ts';
import type { FlagSpec, ParsedArguments } from './arguments.ts';

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
};
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

/** Bytes a second from `500kB`, `10MB`, `1.5MiB/s`. @throws {DumontError} USAGE naming the flag */
export function parseByteRate(flag: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kmg]?i?b?)(?:\/s)?$/i.exec(text);
  const unit = UNITS[match?.[2]?.toLowerCase() ?? ''];
  const rate = Number(match?.[1]) * (unit ?? Number.NaN);
  if (rate >= MIN_BYTES_PER_SECOND && Number.isFinite(rate)) return Math.floor(rate);
  throw new DumontError('USAGE', `--${flag} ${text}: it must be bytes a second, at least 1kiB`, {
    field: flag,
    hint: `For example --${flag} 10MB for ten million bytes a second.`,
  });
}
