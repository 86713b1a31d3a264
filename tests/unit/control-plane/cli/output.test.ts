import { createColors } from '@dumont/control-plane/cli/output/colors.ts';
import { renderFacts } from '@dumont/control-plane/cli/output/facts.ts';
import { failoverHeadline, renderFailoverReport } from '@dumont/control-plane/cli/output/failover-report.ts';
import { formatAge, formatCost, formatPrice } from '@dumont/control-plane/cli/output/format.ts';
import { barOf } from '@dumont/control-plane/cli/output/phase-chart.ts';
import { renderTable } from '@dumont/control-plane/cli/output/table.ts';
import { ManualClock } from '@dumont/tests/world/manual-clock.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { sampleReport } from '../http/sample-data.ts';

const plain = createColors(false);
const viewOf = (width: number) => ({ colors: plain, width, isLive: true, clock: new ManualClock() });
const longestLine = (text: string) => Math.max(...text.split('\n').map((line) => line.length));

test('prices, costs and ages read as people say them', () => {
  expect([410_000, 1_000_000, 31_200, 12_345_678, 1].map(formatPrice)).toEqual([
    '$0.41/h',
    '$1.00/h',
    '$0.0312/h',
    '$12.35/h',
    '$0.00/h',
  ]);
  expect([0, 1, 1_310, 410_000, 12_300_000].map(formatCost)).toEqual([
    '$0',
    '<$0.0001',
    '$0.0013',
    '$0.4100',
    '$12.30',
  ]);
  const ages = [-5_000, 900, 3_000, 125_000, 7_200_000, 172_800_000].map((ageMs) => formatAge(0, ageMs));
  expect(ages).toEqual(['now', 'now', '3 s ago', '2 min ago', '2 h ago', '2 d ago']);
});

test('a report fits the terminal at any usual width', () => {
  for (const width of [60, 80, 100, 120]) {
    const text = renderFailoverReport(viewOf(width), sampleReport('op_00000000000000000000'));
    expect(longestLine(text)).toBeLessThanOrEqual(width);
  }
});

test('the headline says how it ended', () => {
  const headline = (changes: Parameters<typeof sampleReport>[1]) =>
    failoverHeadline({ colors: plain }, sampleReport('op_0', changes));
  expect(headline({ rpoMs: 0 })).toBe('served again in 4.2 s · lost nothing · cost $0.0013');
  expect(headline({ rpoMs: null })).toContain('no snapshot to restore');
  expect(headline({ state: 'averted', totalMs: null })).toBe('averted: the old machine answered again · cost $0.0013');
  expect(headline({ state: 'averted', totalMs: null, error: 'disk full' })).toBe('averted: disk full · cost $0.0013');
  expect(headline({ state: 'failed', error: 'no offer fits' })).toBe('failed: no offer fits · cost $0.0013');
  expect(headline({ state: 'restoring', totalMs: null })).toBe('still restoring · cost $0.0013');
});

test('a bar is at least a sliver and never leaves its place', () => {
  const part = fc.double({ min: 0, max: 1e7, noNaN: true });
  fc.assert(
    fc.property(part, part, part, fc.integer({ min: 1, max: 200 }), (beforeMs, ms, afterMs, barWidth) => {
      const { offset, bar } = barOf({ beforeMs, ms, totalMs: beforeMs + ms + afterMs, barWidth });
      expect(bar.length).toBeGreaterThan(0);
      expect(offset).toBeGreaterThanOrEqual(0);
      expect(offset + bar.length).toBeLessThanOrEqual(barWidth);
    }),
  );
});

test('a table leaves out the least important columns until it fits', () => {
  const columns = [
    { title: 'A', cell: () => 'aaaa' },
    { title: 'B', cell: () => 'bbbbbbbbbb', dropOrder: 2 },
    { title: 'C', cell: () => 'cc', dropOrder: 1, align: 'right' as const },
  ];
  const at = (width: number) => renderTable({ colors: plain, width }, columns, [1]);
  expect(at(20)).toBe('A     B            C\naaaa  bbbbbbbbbb  cc');
  expect(at(19)).toBe('A      C\naaaa  cc');
  expect(at(5)).toBe('A\naaaa');
});

test('facts wrap between parts and leave out empty ones', () => {
  const text = renderFacts({ colors: plain, width: 26 }, [
    ['one', ['aaaaaa', 'bbbbbb', 'cccccc']],
    ['none', []],
    ['two', ['long words wrap too here']],
  ]);
  expect(text).toBe(
    ['one        aaaaaa · bbbbbb', '           cccccc', 'two        long words wrap', '           too here'].join('\n'),
  );
});
