import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Bar, Claim, ReportDocument, Table, Tone } from './document.ts';
import { formatShare, spanMs, ticksOf } from './document.ts';

/** A report as one HTML page that needs nothing else: no script, no font, no picture from anywhere. Pure. */
export function renderHtml(report: ReportDocument): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(`${report.kind}: ${report.title}`)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kind">${escape(report.kind)}</p>
<h1>${escape(report.title)}</h1>
<p class="dim mono">${escape(report.subtitle)}</p>
</header>
<p class="verdict ${report.verdict.tone}"><span aria-hidden="true">${MARKS[report.verdict.tone]}</span> ${escape(report.verdict.text)}</p>
<dl class="figures">${report.figures.map(({ label, value }) => `<div><dt>${escape(label)}</dt><dd>${escape(value)}</dd></div>`).join('')}</dl>
${section('Timeline', report.bars.length > 0 ? renderTimeline(report.bars) : '')}
${section('Evidence', renderClaims(report.claims))}
${section('Details', renderFacts(report.facts))}
${report.tables.map((table) => section(table.title, renderTable(table))).join('\n')}
<footer>${escape(report.footer)}</footer>
</main>
</body>
</html>
`;
}

const MARKS: Readonly<Record<Tone, string>> = { good: '✓', bad: '✗', running: '…' };

function section(title: string, content: string): string {
  return content === '' ? '' : `<section>\n<h2>${escape(title)}</h2>\n${content}\n</section>`;
}

const CHART = { width: 880, labelWidth: 190, figureWidth: 150, rowHeight: 30, barHeight: 16, axisHeight: 26 } as const;

/** Bars against time, drawn in the page's own colours; the numbers stand beside them. */
function renderTimeline(bars: readonly Bar[]): string {
  const { width, labelWidth, figureWidth, rowHeight, barHeight, axisHeight } = CHART;
  const totalMs = spanMs(bars);
  const plotWidth = width - labelWidth - figureWidth;
  const height = bars.length * rowHeight + axisHeight;
  const xOf = (ms: number) => round(labelWidth + (ms / totalMs) * plotWidth);
  const ticks = ticksOf(totalMs).map(
    (ms) =>
      `<line x1="${xOf(ms)}" x2="${xOf(ms)}" y1="0" y2="${height - axisHeight}"/><text x="${xOf(ms)}" y="${height - 8}" class="tick">${escape(formatDuration(ms))}</text>`,
  );
  const rows = bars.map((bar, index) => {
    const y = index * rowHeight;
    const middle = y + rowHeight / 2;
    const barWidth = Math.max(2, round((bar.durationMs / totalMs) * plotWidth));
    const x = Math.min(xOf(bar.offsetMs), labelWidth + plotWidth - barWidth);
    return [
      `<text x="0" y="${middle}" class="label">${escape(bar.label)}</text>`,
      `<rect x="${x}" y="${middle - barHeight / 2}" width="${barWidth}" height="${barHeight}" rx="3" class="${bar.tone}"/>`,
      `<text x="${width - 60}" y="${middle}" class="figure">${escape(formatDuration(bar.durationMs))}</text>`,
      `<text x="${width}" y="${middle}" class="figure dim">${formatShare(bar.share)}</text>`,
    ].join('');
  });
  const words = bars.map(({ label, durationMs }) => `${label} ${formatDuration(durationMs)}`).join(', ');
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(words)}">
<g class="grid">${ticks.join('')}</g>
${rows.join('\n')}
</svg>`;
}

function renderClaims(claims: readonly Claim[]): string {
  if (claims.length === 0) return '';
  const items = claims.map(({ text, ok, detail }) => {
    const tone = ok ? 'good' : 'bad';
    const mark = `<span class="mark ${tone}" aria-label="${ok ? 'holds' : 'does not hold'}">${MARKS[tone]}</span>`;
    return `<li>${mark}<div>${escape(text)}<br><span class="dim">${escape(detail)}</span></div></li>`;
  });
  return `<ul class="claims">${items.join('\n')}</ul>`;
}

function renderFacts(facts: ReportDocument['facts']): string {
  if (facts.length === 0) return '';
  return `<dl class="facts">${facts.map(([label, value]) => `<dt>${escape(label)}</dt><dd>${escape(value)}</dd>`).join('\n')}</dl>`;
}

function renderTable({ head, rows, right }: Table): string {
  const cell = (tag: 'th' | 'td') => (text: string, column: number) =>
    `<${tag}${right.includes(column) ? ' class="right"' : ''}>${escape(text)}</${tag}>`;
  const body = rows.map((row) => `<tr>${row.map(cell('td')).join('')}</tr>`).join('\n');
  return `<div class="scroll"><table><thead><tr>${head.map(cell('th')).join('')}</tr></thead>\n<tbody>${body}</tbody></table></div>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Names and errors come from machines and markets: nothing in them is markup. */
function escape(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}

const STYLE = `
:root { --ink: #16181d; --dim: #646b78; --line: #e2e5ea; --paper: #ffffff; --panel: #f6f7f9; --good: #16803c; --bad: #c02626; --running: #a16207; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaee; --dim: #9aa2b1; --line: #2b303a; --paper: #101216; --panel: #181b21; --good: #4ade80; --bad: #f87171; --running: #facc15; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.5 ui-sans-serif, system-ui, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 960px; margin: 0 auto; padding: 40px 24px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 12px; font-weight: 600; text-transform: uppercase; letter-spacing: 0.06em; color: var(--dim); margin: 0 0 12px; }
p { margin: 0; }
section { border-top: 1px solid var(--line); padding: 24px 0; break-inside: avoid; }
.kind { color: var(--dim); font-weight: 600; margin-bottom: 4px; }
.dim { color: var(--dim); }
.mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 12px; }
.verdict { margin: 24px 0; padding: 12px 16px; border-radius: 8px; background: var(--panel); border-left: 4px solid currentColor; font-size: 16px; font-weight: 600; overflow-wrap: anywhere; }
.good { color: var(--good); fill: var(--good); } .bad { color: var(--bad); fill: var(--bad); } .running { color: var(--running); fill: var(--running); }
.figures { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 0 0 28px; }
.figures dt { color: var(--dim); font-size: 12px; } .figures dd { margin: 0; font-size: 22px; font-weight: 600; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); dominant-baseline: middle; }
svg .dim, svg .tick { fill: var(--dim); } svg .tick { font-size: 11px; text-anchor: middle; } svg .figure { text-anchor: end; }
svg .grid line { stroke: var(--line); }
.claims { list-style: none; margin: 0; padding: 0; display: grid; gap: 10px; }
.claims li { display: flex; gap: 10px; overflow-wrap: anywhere; } .mark { font-weight: 700; width: 16px; flex: none; }
.facts { display: grid; grid-template-columns: 130px 1fr; gap: 6px 16px; margin: 0; }
.facts dt { color: var(--dim); } .facts dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 13px; }
th { text-align: left; font-weight: 600; color: var(--dim); } th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.right { text-align: right; }
footer { border-top: 1px solid var(--line); padding-top: 16px; color: var(--dim); font-size: 12px; }
@media (max-width: 600px) { .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 8px; } }
@media print {
  :root { --ink: #000; --dim: #555; --line: #ccc; --paper: #fff; --panel: #f4f4f4; --good: #116631; --bad: #a11; --running: #7a4d00; }
  main { padding: 0; max-width: none; } .verdict, svg rect { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
`;
