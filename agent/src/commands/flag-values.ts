import { DumontError } from '@dumont/shared/util/errors.ts';

const SIZE_POWERS = ['', 'k', 'm', 'g', 't'] as const;
const TIME_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};

/**
 * `1048576`, `500M`, `10MB`, `8MiB`: bytes. Units are powers of 1000, with an `i` of 1024, in upper or lower case. Pure.
 * @throws {DumontError} USAGE naming the flag
 */
export function parseSize(flag: string, text: string): number {
  const sizeBytes = sizeOf(text);
  if (sizeBytes === null) throw refused(flag, text, 'a size such as 500MB or 20GiB');
  return sizeBytes;
}

/** As {@link parseSize} reads it; null for any other text. */
export function sizeOf(text: string): number | null {
  const match = /^(\d{1,15}(?:\.\d{1,3})?) ?([kmgt]?)(i?)b?$/i.exec(text);
  const power = SIZE_POWERS.findIndex((letter) => letter === match?.[2]?.toLowerCase());
  // An `i` belongs to a letter.
  if (match === null || (power === 0 && match[3] !== '')) return null;
  return Math.floor(Number(match[1]) * (match[3] === '' ? 1_000 : 1_024) ** power);
}

/** `500ms`, `2s`, `5m`, `1h`, `7d`, `4w`: milliseconds. Pure. @throws {DumontError} USAGE naming the flag */
export function parseDuration(flag: string, text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d|w)$/.exec(text);
  const unit = TIME_UNITS[match?.[2] ?? ''];
  if (match === null || unit === undefined) throw refused(flag, text, 'a time such as 500ms, 2s, 10m or 7d');
  return Number(match[1]) * unit;
}

/** `5%`, `0.5%`, `100%`: a share above 0 up to 1. Pure. @throws {DumontError} USAGE naming the flag */
export function parseShare(flag: string, text: string): number {
  const match = /^(\d{1,3}(?:\.\d{1,6})?)%$/.exec(text);
  const share = match === null ? 0 : Number(match[1]) / 100;
  if (share <= 0 || share > 1) throw refused(flag, text, 'a share such as 5%, above 0% and up to 100%');
  return share;
}

/** A whole number from 0. Pure. @throws {DumontError} USAGE naming the flag */
export function parseCount(flag: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw refused(flag, text, 'a whole number');
  return Number(text);
}

function refused(flag: string, text: string, wanted: string): DumontError {
  return new DumontError('USAGE', `--${flag} ${JSON.stringify(text)} is not ${wanted}`, { field: flag });
}
