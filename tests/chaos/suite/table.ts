import type { CaseResult } from './run-case.ts';

const COLUMNS: readonly (readonly [title: string, cell: (result: CaseResult) => string])[] = [
  ['case', ({ name }) => name],
  ['fault', ({ fault }) => fault],
  ['detect ms', ({ detectMs }) => whole(detectMs)],
  ['takeover ms', ({ takeoverMs }) => whole(takeoverMs)],
  ['loss ms', ({ lossMs }) => whole(lossMs)],
  ['loss B', ({ lossBytes }) => String(lossBytes)],
  ['2 writers ms', ({ doubleWriterMs }) => whole(doubleWriterMs)],
  ['outcome', ({ outcome }) => outcome],
  ['verdict', ({ problems }) => (problems.length === 0 ? 'kept' : 'BROKEN')],
];
const FIRST_NUMBER = 2;
const LAST_NUMBER = 6;

/** One line per result, below their titles; the promises that were broken follow. Pure. */
export function renderTable(results: readonly CaseResult[]): string {
  const lines = [COLUMNS.map(([title]) => title), ...results.map((one) => COLUMNS.map(([, cell]) => cell(one)))];
  const widths = COLUMNS.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const table = lines.map((line) =>
    line
      .map((cell, column) => pad(cell, column, widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const broken = results.flatMap(({ name, problems }) => problems.map((problem) => `${name}: ${problem}`));
  return [...table, '', ...broken, summary(results)].join('\n');
}

function summary(results: readonly CaseResult[]): string {
  const broken = results.filter(({ problems }) => problems.length > 0).length;
  const mostMs = Math.max(0, ...results.map(({ doubleWriterMs }) => doubleWriterMs));
  return `${results.length} faults, ${broken} with a broken promise; two writers for at most ${whole(mostMs)} ms`;
}

function pad(cell: string, column: number, width: number): string {
  return column >= FIRST_NUMBER && column <= LAST_NUMBER ? cell.padStart(width) : cell.padEnd(width);
}

function whole(value: number | null): string {
  return value === null ? '–' : value.toFixed(0);
}
