import type { Cli } from '../cli.ts';
import type { Column } from './table.ts';
import { renderTable } from './table.ts';

/** Prints a list as a JSON array or a table; says so when it is empty or cut off. */
export function printList<Item>(
  cli: Cli,
  list: {
    readonly items: readonly Item[];
    readonly hasMore: boolean;
    readonly columns: readonly Column<Item>[];
    readonly empty: string;
  },
): void {
  if (cli.json) {
    cli.printJson(list.items);
    return;
  }
  if (list.items.length === 0) {
    cli.note(list.empty);
    return;
  }
  cli.print(renderTable(cli, list.columns, list.items));
  if (list.hasMore) cli.note(`Only the first ${list.items.length}; see more with --limit.`);
}
