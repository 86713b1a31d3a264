/** Money is held as integer micro-dollars: sums stay exact and fit a bigint column. */
export const MICRO_USD_PER_USD = 1_000_000;

/** Dollars as providers write them to micro-dollars, rounded to the nearest. */
export function microUsd(usd: number): number {
  return Math.round(usd * MICRO_USD_PER_USD);
}

/** `$0.0312` for people: four digits under a dollar, two above. */
export function formatMicroUsd(amount: number): string {
  const usd = amount / MICRO_USD_PER_USD;
  return `$${usd.toFixed(Math.abs(usd) < 1 ? 4 : 2)}`;
}

/** What holding a machine for `durationMs` costs, in micro-dollars, rounded up: never promise less than the bill. */
export function costMicroUsd(priceMicroUsdPerHour: number, durationMs: number): number {
  return Math.ceil((priceMicroUsdPerHour * Math.max(0, durationMs)) / 3_600_000);
}
