import { writeFile } from 'node:fs/promises';
import { Option } from 'commander';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Cli } from '../cli.ts';
import type { ReportDocument } from './document.ts';
import { renderHtml } from './html.ts';
import { renderPdf } from './pdf.ts';

const FORMATS = ['json', 'html', 'pdf'] as const;

export interface SaveOptions {
  readonly format?: (typeof FORMATS)[number];
  readonly out?: string;
}

export function formatOption(): Option {
  return new Option('--format <format>', 'a page, a document or data, instead of text').choices(FORMATS);
}

export function outOption(): Option {
  return new Option('--out <file>', 'where to put it; its ending tells the format');
}

/**
 * Writes a report to a file, or HTML and JSON to stdout where none is named.
 * @returns false when neither a format nor a file was asked for: then the caller shows it as text
 * @throws {DumontError} USAGE for a PDF without a file, or a file whose ending says nothing; IO
 */
export async function saveReport(
  cli: Cli,
  { format: asked, out }: SaveOptions,
  report: { readonly data: unknown; readonly document: ReportDocument },
): Promise<boolean> {
  if (asked === undefined && out === undefined) return false;
  const format = asked ?? formatOf(out ?? '');
  if (format === 'pdf' && out === undefined) {
    throw new DumontError('USAGE', 'a PDF needs a file', { field: 'out', hint: 'Add --out report.pdf.' });
  }
  const content = await render(format, report);
  if (out === undefined) {
    cli.write(String(content));
    return true;
  }
  try {
    await writeFile(out, content);
  } catch (error) {
    throw toDumontError(error, 'IO', `writing ${out}`);
  }
  if (cli.json) cli.printJson({ file: out, format });
  else cli.print(`Written to ${out}.`);
  return true;
}

async function render(
  format: (typeof FORMATS)[number],
  { data, document }: { readonly data: unknown; readonly document: ReportDocument },
): Promise<string | Uint8Array> {
  switch (format) {
    case 'json':
      return `${JSON.stringify(data, null, 2)}\n`;
    case 'html':
      return renderHtml(document);
    case 'pdf':
      return renderPdf(document);
  }
}

function formatOf(out: string): (typeof FORMATS)[number] {
  const found = FORMATS.find((format) => out.toLowerCase().endsWith(`.${format}`));
  if (found !== undefined) return found;
  throw new DumontError('USAGE', `the ending of ${out} names no format`, {
    field: 'format',
    hint: `Add --format: ${FORMATS.join(', ')}.`,
  });
}
