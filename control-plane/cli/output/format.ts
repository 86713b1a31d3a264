import { formatMicroUsd } from '@dumont/shared/model/money.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';

/** Shows an absent value. */
export const NONE = '–';

/** `3 s ago`, `5 min ago`, `2 h ago`, `4 d ago`; `now` for less than a second and for clocks that differ. */
export function formatAge(atMs: number, nowMs: number): string {
  const seconds = Math.floor((nowMs - atMs) / 1_000);
  if (seconds < 1) return 'now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** What something cost so far: `$0.4101`, `$12.30`; `$0` for nothing. */
export function formatCost(amountMicroUsd: number): string {
  if (amountMicroUsd === 0) return '$0';
  return amountMicroUsd < SMALLEST_SHOWN_MICRO_USD ? '<$0.0001' : formatMicroUsd(amountMicroUsd);
}

const SMALLEST_SHOWN_MICRO_USD = 100;

/** An hourly price: `$0.41/h`, `$0.0312/h`; beyond cents only the digits that say something. */
export function formatPrice(microUsdPerHour: number): string {
  return `${formatMicroUsd(microUsdPerHour).replace(/(\.\d\d\d*?)0+$/, '$1')}/h`;
}

/** A duration, or a dash for null. */
export function formatMaybeDuration(ms: number | null): string {
  return ms === null ? NONE : formatDuration(ms);
}

/** An id as people read it: its first characters on a terminal, whole where programs read. */
export function formatId(id: string, isLive: boolean): string {
  return isLive ? id.slice(0, SHORT_ID_CHARS) : id;
}

/** Two-letter noun, underscore and six of twenty characters: one in a billion. */
const SHORT_ID_CHARS = 9;

/** `14:03:07.250` in local time on a terminal, ISO 8601 elsewhere. */
export function formatTime(atMs: number, isLive: boolean): string {
  const date = new Date(atMs);
  if (!isLive) return date.toISOString();
  const part = (value: number, digits = 2) => String(value).padStart(digits, '0');
  return `${part(date.getHours())}:${part(date.getMinutes())}:${part(date.getSeconds())}.${part(date.getMilliseconds(), 3)}`;
}
