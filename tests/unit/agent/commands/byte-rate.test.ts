import { parseByteRate } from '@dumont/agent/commands/byte-rate.ts';
import { expect, test } from 'vitest';

test.each([
  ['10MB', 10_000_000],
  ['8MiB', 8_388_608],
  ['1.5 mb/s', 1_500_000],
  ['500k', 500_000],
  ['2048', 2_048],
  ['1G', 1_000_000_000],
])('%s is %d bytes a second', (text, rate) => {
  expect(parseByteRate('limit-upload', text)).toBe(rate);
});

test.each(['', '0', '10', '-5MB', 'fast', '10 MBit', '1e9', '5MM'])('%j is no rate', (text) => {
  expect(() => parseByteRate('limit-upload', text)).toThrow(/--limit-upload/);
});
