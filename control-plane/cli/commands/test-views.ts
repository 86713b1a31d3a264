import type { TestKind, TestReport } from '@dumont/shared/api/test-report.ts';
import type { Cli } from '../cli.ts';
import { followOperation } from '../follow.ts';
import { collect, resolveTestId } from '../ids.ts';
import { formatAge, formatCost, formatId, formatMaybeDuration, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import { paintState } from '../output/state.ts';
import type { Column } from '../output/table.ts';
import { renderTestReport } from '../output/test-report.ts';
import type { SaveOptions } from '../report/save-report.ts';
import { saveReport } from '../report/save-report.ts';
import { testDocument } from '../report/test-document.ts';

/** As many reports as the API gives at once. */
const PAGE_SIZE = 100;

/** Shows a test that was just begun until it is over, then its report. @returns the exit code: 1 when it failed */
export async function followTest(
  cli: Cli,
  testId: string,
  options: SaveOptions & { readonly wait: boolean },
): Promise<number> {
  if (!options.wait) {
    if (cli.json) cli.printJson({ testId });
    else cli.print(`Begun. Progress: dumont test report ${testId}`);
    return 0;
  }
  if (!cli.json) cli.print(`Test ${formatId(testId, cli.isLive)}. To end it early: dumont test cancel ${testId}`);
  await followOperation(cli, testId);
  const report = await cli.client.call('getTest', { params: { testId } });
  await present(cli, report, options);
  return report.success === true ? 0 : 1;
}

/** One test's report, as text or as a file. */
export async function showTest(
  cli: Cli,
  { which, kind, ...options }: SaveOptions & { readonly which: string | undefined; readonly kind?: TestKind },
): Promise<void> {
  const testId = await resolveTestId(cli, which, kind);
  await present(cli, await cli.client.call('getTest', { params: { testId } }), options);
}

export async function listTests(
  cli: Cli,
  { limit, ...filter }: { readonly limit: number; readonly workspace?: string; readonly kind?: TestKind },
): Promise<void> {
  const list = await collect(limit, (page) =>
    cli.client.call('listTests', { query: { ...page, ...filter, limit: Math.min(PAGE_SIZE, page.limit) } }),
  );
  printList(cli, { ...list, columns: columns(cli), empty: 'There was no test yet.' });
}

async function present(cli: Cli, report: TestReport, options: SaveOptions): Promise<void> {
  if (await saveReport(cli, options, { data: report, document: testDocument(report) })) return;
  if (cli.json) cli.printJson(report);
  else cli.print(`\n${renderTestReport(cli, report)}`);
}

function columns(cli: Cli): readonly Column<TestReport>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'TEST', cell: (item) => formatId(item.testId, cli.isLive) },
    { title: 'OF', cell: (item) => item.workspaceName ?? item.machines[0]?.provider ?? NONE },
    { title: 'STATE', cell: (item) => paintState(cli.colors, item.state) },
    { title: 'TOOK', cell: (item) => formatMaybeDuration(item.totalMs), align: 'right' },
    { title: 'COST', cell: (item) => formatCost(item.costMicroUsd), align: 'right' },
    { title: 'WHEN', cell: (item) => cli.colors.dim(formatAge(item.startedAtMs, nowMs)) },
    { title: 'WHY IT FAILED', cell: (item) => item.error ?? '', dropOrder: 1 },
  ];
}
