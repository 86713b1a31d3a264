import Table from 'cli-table3';
import { stripVTControlCharacters } from 'node:util';
import type { Cli } from '../cli.ts';

export interface Column<Item> {
  readonly title: string;
  readonly cell: (item: Item) => string;
  readonly align?: 'left' | 'right';
  /** Columns with the highest number go first when the terminal is too narrow; those without stay. */
  readonly dropOrder?: number;
}

const GAP = 2;

/** Items as an aligned table without lines, header dimmed, leaving out what does not fit the terminal. Pure. */
export function renderTable<Item>(
  cli: Pick<Cli, 'colors' | 'width'>,
  columns: readonly Column<Item>[],
  items: readonly Item[],
): string {
  const fitting = fitColumns(columns, items, cli.width);
  const table = new Table({
    head: fitting.map((column) => cli.colors.dim(column.title)),
    colAligns: fitting.map((column) => column.align ?? 'left'),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP },
    chars: NO_LINES,
  });
  for (const item of items) table.push(fitting.map((column) => column.cell(item)));
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

function fitColumns<Item>(
  columns: readonly Column<Item>[],
  items: readonly Item[],
  width: number,
): readonly Column<Item>[] {
  const widths = new Map(
    columns.map((column) => [column, Math.max(...[column.title, ...items.map(column.cell)].map(visibleLength)) + GAP]),
  );
  let fitting = columns;
  const total = () => fitting.reduce((sum, column) => sum + (widths.get(column) ?? 0), -GAP);
  const droppable = columns
    .filter((column) => column.dropOrder !== undefined)
    .toSorted((a, b) => (b.dropOrder ?? 0) - (a.dropOrder ?? 0));
  for (const victim of droppable) {
    if (total() <= width) break;
    fitting = fitting.filter((column) => column !== victim);
  }
  return fitting;
}

/** Columns a text takes on screen; ours has no wide characters. */
export function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length;
}

const NO_LINES = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: '',
};
