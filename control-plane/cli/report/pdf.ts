import type { Color, PDFFont, PDFPage } from '@cantoo/pdf-lib';
import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Bar, ReportDocument, Table, Tone } from './document.ts';
import { formatShare, spanMs, ticksOf } from './document.ts';

/** A4, points. */
const PAGE = { width: 595.28, height: 841.89, margin: 48 } as const;
const TEXT_WIDTH = PAGE.width - 2 * PAGE.margin;
const BODY_SIZE = 9.5;
const LINE_HEIGHT = 13.5;

/** A report as a PDF, from the same data as the page. The library is loaded only here. */
export async function renderPdf(report: ReportDocument): Promise<Uint8Array> {
  const { PDFDocument, StandardFonts, rgb } = await import('@cantoo/pdf-lib');
  const pdf = await PDFDocument.create();
  pdf.setTitle(`${report.kind}: ${report.title}`);
  pdf.setCreator('Dumont Cloud');
  const paper = new Paper({
    addPage: () => pdf.addPage([PAGE.width, PAGE.height]),
    plain: await pdf.embedFont(StandardFonts.Helvetica),
    bold: await pdf.embedFont(StandardFonts.HelveticaBold),
    palette: {
      ink: rgb(0.09, 0.1, 0.12),
      dim: rgb(0.4, 0.43, 0.48),
      line: rgb(0.87, 0.89, 0.91),
      good: rgb(0.09, 0.5, 0.24),
      bad: rgb(0.75, 0.15, 0.15),
      running: rgb(0.63, 0.38, 0.03),
    },
  });
  drawHead(paper, report);
  if (report.bars.length > 0) drawTimeline(paper, report.bars);
  drawClaims(paper, report);
  if (report.facts.length > 0) {
    paper.heading('Details');
    for (const [label, value] of report.facts) paper.labelled(label, value);
  }
  for (const table of report.tables) drawTable(paper, table);
  paper.space(14);
  paper.text(report.footer, { size: 8, color: 'dim' });
  return pdf.save();
}

type ColorName = 'ink' | 'dim' | 'line' | Tone;

interface PaperParts {
  readonly addPage: () => PDFPage;
  readonly plain: PDFFont;
  readonly bold: PDFFont;
  readonly palette: Readonly<Record<ColorName, Color>>;
}

interface TextStyle {
  readonly size?: number;
  readonly bold?: boolean;
  readonly color?: ColorName;
  /** From the left margin. */
  readonly x?: number;
  readonly width?: number;
}

/** Pages filled from the top, a new one when there is no room. */
class Paper {
  readonly #parts: PaperParts;
  #page: PDFPage;
  #y: number;

  constructor(parts: PaperParts) {
    this.#parts = parts;
    this.#page = parts.addPage();
    this.#y = PAGE.height - PAGE.margin;
  }

  /** Makes sure that so much fits on this page. */
  room(height: number): void {
    if (this.#y - height >= PAGE.margin) return;
    this.#page = this.#parts.addPage();
    this.#y = PAGE.height - PAGE.margin;
  }

  space(height: number): void {
    this.#y -= height;
  }

  heading(title: string): void {
    // With its first lines: a title alone at the foot of a page says nothing.
    this.room(90);
    this.space(16);
    this.rule();
    this.space(16);
    this.text(title.toUpperCase(), { size: 8, bold: true, color: 'dim' });
    this.space(3);
  }

  rule(): void {
    const { palette } = this.#parts;
    const [x, y] = [PAGE.margin, this.#y];
    this.#page.drawLine({ start: { x, y }, end: { x: x + TEXT_WIDTH, y }, thickness: 0.6, color: palette.line });
  }

  /** A paragraph, broken into lines. */
  text(text: string, style: TextStyle = {}): void {
    const { size = BODY_SIZE, x = 0 } = style;
    const lineHeight = (size / BODY_SIZE) * LINE_HEIGHT;
    for (const line of this.#wrap(text, style.width ?? TEXT_WIDTH - x, { size, bold: style.bold ?? false })) {
      this.room(lineHeight);
      this.#y -= lineHeight;
      this.at(line, { ...style, x }, 0);
    }
  }

  labelled(label: string, value: string): void {
    this.room(LINE_HEIGHT);
    this.at(label, { color: 'dim' }, -LINE_HEIGHT);
    this.text(value, { x: 96 });
  }

  /** One line at the present height, `dy` up; right-aligned to `x` with `align`. */
  at(text: string, style: TextStyle & { readonly align?: 'right' | 'middle' }, dy: number): void {
    const { size = BODY_SIZE, bold = false, color = 'ink', x = 0, align } = style;
    const font = bold ? this.#parts.bold : this.#parts.plain;
    const shown = printable(text);
    const width = font.widthOfTextAtSize(shown, size);
    const left = PAGE.margin + x - (align === 'right' ? width : align === 'middle' ? width / 2 : 0);
    this.#page.drawText(shown, { x: left, y: this.#y + dy, size, font, color: this.#parts.palette[color] });
  }

  box(
    box: { readonly x: number; readonly dy: number; readonly width: number; readonly height: number },
    color: ColorName,
  ) {
    const { x, dy, width, height } = box;
    const place = { x: PAGE.margin + x, y: this.#y + dy, width, height };
    this.#page.drawRectangle({ ...place, color: this.#parts.palette[color] });
  }

  /** As much of a text as fits a width, with dots for the rest. */
  fit(text: string, width: number, style: { readonly size: number; readonly bold: boolean }): string {
    const font = style.bold ? this.#parts.bold : this.#parts.plain;
    let shown = printable(text);
    if (font.widthOfTextAtSize(shown, style.size) <= width) return shown;
    while (shown.length > 1 && font.widthOfTextAtSize(`${shown}...`, style.size) > width) shown = shown.slice(0, -1);
    return `${shown}...`;
  }

  #wrap(text: string, width: number, { size, bold }: { readonly size: number; readonly bold: boolean }): string[] {
    const font = bold ? this.#parts.bold : this.#parts.plain;
    const fits = (line: string) => font.widthOfTextAtSize(line, size) <= width;
    const lines: string[] = [];
    let line = '';
    for (const word of printable(text).split(' ')) {
      const longer = line === '' ? word : `${line} ${word}`;
      if (fits(longer)) {
        line = longer;
        continue;
      }
      if (line !== '') lines.push(line);
      line = word;
      // A hash or a path alone is longer than a line.
      while (!fits(line) && line.length > 1) {
        let end = line.length - 1;
        while (end > 1 && !fits(line.slice(0, end))) end -= 1;
        lines.push(line.slice(0, end));
        line = line.slice(end);
      }
    }
    return [...lines, line];
  }
}

function drawHead(paper: Paper, report: ReportDocument): void {
  paper.text(report.kind, { bold: true, color: 'dim' });
  paper.text(report.title, { size: 18, bold: true });
  paper.text(report.subtitle, { size: 8, color: 'dim' });
  paper.space(12);
  paper.text(report.verdict.text, { size: 11.5, bold: true, color: report.verdict.tone });
  paper.space(12);
  const step = TEXT_WIDTH / Math.max(4, report.figures.length);
  paper.space(34);
  for (const [index, { label, value }] of report.figures.entries()) {
    paper.at(label, { x: index * step, size: 8, color: 'dim' }, 20);
    paper.at(value, { x: index * step, size: 14, bold: true }, 0);
  }
}

const LABEL_WIDTH = 130;
const FIGURE_WIDTH = 100;
const ROW_HEIGHT = 19;

function drawTimeline(paper: Paper, bars: readonly Bar[]): void {
  paper.heading('Timeline');
  const totalMs = spanMs(bars);
  const plotWidth = TEXT_WIDTH - LABEL_WIDTH - FIGURE_WIDTH;
  const xOf = (ms: number) => LABEL_WIDTH + (ms / totalMs) * plotWidth;
  for (const bar of bars) {
    paper.room(ROW_HEIGHT);
    paper.space(ROW_HEIGHT);
    const width = Math.max(1.5, (bar.durationMs / totalMs) * plotWidth);
    const x = Math.min(xOf(bar.offsetMs), LABEL_WIDTH + plotWidth - width);
    paper.at(bar.label, {}, 0);
    paper.box({ x: LABEL_WIDTH, dy: 2.5, width: plotWidth, height: 0.4 }, 'line');
    paper.box({ x, dy: -1.5, width, height: 9 }, bar.tone);
    paper.at(formatDuration(bar.durationMs), { x: TEXT_WIDTH - 46, align: 'right' }, 0);
    paper.at(formatShare(bar.share), { x: TEXT_WIDTH, align: 'right', color: 'dim' }, 0);
  }
  paper.space(ROW_HEIGHT);
  for (const ms of ticksOf(totalMs)) {
    paper.at(formatDuration(ms), { x: xOf(ms), size: 7, color: 'dim', align: 'middle' }, 4);
  }
}

function drawClaims(paper: Paper, { claims }: ReportDocument): void {
  if (claims.length === 0) return;
  paper.heading('Evidence');
  for (const { text, ok, detail } of claims) {
    paper.room(2 * LINE_HEIGHT);
    // The standard fonts have no check mark.
    paper.at(ok ? 'yes' : 'NO', { bold: true, color: ok ? 'good' : 'bad' }, -LINE_HEIGHT);
    paper.text(text, { x: 28 });
    paper.text(detail, { x: 28, size: 8.5, color: 'dim' });
    paper.space(4);
  }
}

function drawTable(paper: Paper, { title, head, rows, right }: Table): void {
  paper.heading(title);
  const width = TEXT_WIDTH / head.length;
  const draw = (cells: readonly string[], style: TextStyle) => {
    paper.room(LINE_HEIGHT);
    paper.space(LINE_HEIGHT);
    for (const [column, cell] of cells.entries()) {
      const text = paper.fit(cell, width - 8, { size: 8.5, bold: style.bold ?? false });
      const isRight = right.includes(column);
      const x = isRight ? (column + 1) * width - 12 : column * width;
      paper.at(text, { ...style, size: 8.5, x, ...(isRight && { align: 'right' }) }, 0);
    }
  };
  draw(head, { bold: true, color: 'dim' });
  for (const row of rows) draw(row, {});
}

/** The standard fonts hold Latin-1 and a few marks more: anything else becomes a question mark. */
function printable(text: string): string {
  return text.replaceAll('→', '->').replaceAll(/[^\x20-\x7e\xa0-\xff–—‘’“”•…]/g, '?');
}
