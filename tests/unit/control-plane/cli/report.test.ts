import { ticksOf, type ReportDocument } from '@dumont/control-plane/cli/report/document.ts';
import { failoverDocument } from '@dumont/control-plane/cli/report/failover-document.ts';
import { renderHtml } from '@dumont/control-plane/cli/report/html.ts';
import { renderPdf } from '@dumont/control-plane/cli/report/pdf.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { sampleReport } from '../http/sample-data.ts';

const document = failoverDocument(sampleReport('op_00000000000000000000'));

test('the page of a failover needs nothing else and says what it came to', () => {
  const html = renderHtml(document);
  expect(html).toContain(document.verdict.text);
  for (const { label } of document.bars) expect(html).toContain(label);
  expect(html).not.toMatch(/<script|src=|href=|@import|url\(/);
  expect(html).toContain('prefers-color-scheme: dark');
  expect(html).toContain('@media print');
});

test('whatever a machine or a market says is text on the page, never markup, and printable on paper', async () => {
  const hostile = '<img src=x onerror=alert(1)> " \' & → 日本 \u0000\n';
  const claims = [{ text: hostile, ok: false, detail: hostile }];
  const tables = [{ title: hostile, head: [hostile], rows: [[hostile]], right: [] }];
  const changed: ReportDocument = { ...document, title: hostile, claims, tables, facts: [[hostile, hostile]] };
  expect(renderHtml(changed)).not.toContain('<img');
  expect(
    Buffer.from(await renderPdf(changed))
      .subarray(0, 5)
      .toString(),
  ).toBe('%PDF-');
});

test('a long report goes on over as many pages as it takes', async () => {
  const claims = Array.from({ length: 200 }, (_, index) => ({
    text: `claim ${index}`,
    ok: true,
    detail: 'x'.repeat(300),
  }));
  const [short, long] = [await renderPdf(document), await renderPdf({ ...document, claims })];
  // Each page is an object and a stream of its own.
  const streams = (pdf: Uint8Array) => Buffer.from(pdf).toString('latin1').split('endstream').length - 1;
  expect(streams(long)).toBeGreaterThan(streams(short) + 5);
});

test('a timeline of any length has one to ten marks, none beyond its end', () => {
  fc.assert(
    fc.property(fc.double({ min: 1, max: 1e9, noNaN: true }), (totalMs) => {
      const ticks = ticksOf(totalMs);
      expect(ticks.length).toBeGreaterThanOrEqual(1);
      expect(ticks.length).toBeLessThanOrEqual(10);
      expect(ticks.every((at) => at <= totalMs)).toBe(true);
    }),
  );
});
