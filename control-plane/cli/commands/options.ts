import { InvalidArgumentError, Option } from 'commander';

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 100_000;

/** `--limit`: how many rows of a list are shown. */
export function limitOption(): Option {
  return new Option('--limit <n>', 'rows to show').default(DEFAULT_LIMIT).argParser(wholeNumber(1, MAX_LIMIT));
}

/** Reads an option's value as a whole number within bounds. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}
