import { Argument, Command, Option } from 'commander';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { OperationView } from '@dumont/shared/api/views.ts';
import type { FailoverState } from '@dumont/shared/model/failover.ts';
import { FAILOVER_STATES } from '@dumont/shared/model/failover.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { followOperation } from '../follow.ts';
import { collect, resolveFailoverId } from '../ids.ts';
import { failoverHeadline, renderFailoverReport, standbyParts } from '../output/failover-report.ts';
import { formatAge, formatId, formatMaybeDuration, formatCost } from '../output/format.ts';
import { printList } from '../output/list.ts';
import { renderOperation } from '../output/operation.ts';
import { paintState } from '../output/state.ts';
import type { Column } from '../output/table.ts';
import { failoverDocument } from '../report/failover-document.ts';
import type { SaveOptions } from '../report/save-report.ts';
import { formatOption, outOption, saveReport } from '../report/save-report.ts';
import { addFailoverTests } from './failover-tests.ts';
import { limitOption } from './options.ts';

export function failoverCommand(host: CommandHost): Command {
  const group = new Command('failover').description('moves of a workspace to another machine');
  group
    .command('trigger')
    .description('move a workspace to another machine now')
    .addArgument(new Argument('<workspace>', 'name or id'))
    .option('--reason <text>', 'kept in the report')
    .option('--wait', 'wait until users are served again; shows progress')
    .action((workspace: string, options: { reason?: string; wait?: boolean }) =>
      host.run((cli) => triggerFailover(cli, workspace, options)),
    );
  group
    .command('status')
    .description('state and steps of a failover, the latest by default')
    .addArgument(WHICH)
    .action((which: string | undefined) => host.run((cli) => showStatus(cli, which)));
  group
    .command('report')
    .description('what a failover did, how long each phase took and what it cost')
    .addArgument(WHICH)
    .addOption(formatOption())
    .addOption(outOption())
    .action((which: string | undefined, options: SaveOptions) => host.run((cli) => showReport(cli, which, options)));
  group
    .command('list')
    .description('list failovers, newest first')
    .option('--workspace <workspace>', 'only those of a workspace')
    .addOption(new Option('--state <state>', 'only those in a state').choices(FAILOVER_STATES))
    .addOption(limitOption())
    .action((options: { workspace?: string; state?: FailoverState; limit: number }) =>
      host.run(async (cli) => {
        const { workspace, state, limit } = options;
        const list = await collect(limit, (page) =>
          cli.client.call('listFailovers', { query: { ...page, workspace, state } }),
        );
        printList(cli, { ...list, columns: columns(cli), empty: 'There was no failover yet.' });
      }),
    );
  addFailoverTests(group, host);
  return group;
}

const WHICH = new Argument('[failover]', 'id or its beginning, or a workspace: its latest');

function columns(cli: Cli): readonly Column<FailoverReport>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'FAILOVER', cell: (item) => formatId(item.failoverId, cli.isLive) },
    { title: 'WORKSPACE', cell: (item) => item.workspaceName },
    { title: 'STATE', cell: (item) => paintState(cli.colors, item.state) },
    { title: 'SERVED IN', cell: (item) => formatMaybeDuration(item.totalMs), align: 'right' },
    { title: 'DETECTED IN', cell: (item) => formatMaybeDuration(item.detectMs), align: 'right', dropOrder: 2 },
    { title: 'LOST', cell: (item) => formatMaybeDuration(item.rpoMs), align: 'right' },
    { title: 'COST', cell: (item) => formatCost(item.costMicroUsd), align: 'right', dropOrder: 1 },
    { title: 'WHEN', cell: (item) => cli.colors.dim(formatAge(item.startedAtMs, nowMs)) },
    { title: 'REASON', cell: (item) => item.reason, dropOrder: 3 },
  ];
}

async function triggerFailover(
  cli: Cli,
  workspace: string,
  options: { readonly reason?: string; readonly wait?: boolean },
): Promise<number> {
  const { reason } = options;
  const started = await cli.client.call('triggerFailover', { body: { workspace, reason } });
  const { failoverId } = started;
  if (options.wait !== true) {
    if (cli.json) cli.printJson(started);
    else cli.print(`Moving ${workspace}. Progress: dumont failover status ${failoverId}`);
    return 0;
  }
  if (!cli.json) cli.print(`Moving ${cli.colors.bold(workspace)} · ${formatId(failoverId, cli.isLive)}`);
  const operation = await followOperation(cli, failoverId, isServed);
  const report = await cli.client.call('getFailoverReport', { params: { failoverId } });
  if (cli.json) cli.printJson(report);
  else cli.print(failoverHeadline(cli, report));
  return isServed(operation) ? 0 : 1;
}

/** Users are on the new machine; what remains is giving back the old one. */
function isServed({ state }: OperationView): boolean {
  return state === 'releasing' || state === 'completed';
}

async function showStatus(cli: Cli, which: string | undefined): Promise<void> {
  const failoverId = await resolveFailoverId(cli, which);
  const operation = await cli.client.call('getFailover', { params: { failoverId } });
  if (cli.json) {
    cli.printJson(operation);
    return;
  }
  cli.print(renderOperation(cli, operation));
  const onStandby = standbyParts(await cli.client.call('getFailoverReport', { params: { failoverId } }));
  if (onStandby.length > 0) cli.print(`standby: ${onStandby.join(' · ')}`);
}

async function showReport(cli: Cli, which: string | undefined, options: SaveOptions): Promise<void> {
  const failoverId = await resolveFailoverId(cli, which);
  const report = await cli.client.call('getFailoverReport', { params: { failoverId } });
  if (await saveReport(cli, options, { data: report, document: failoverDocument(report) })) return;
  if (cli.json) cli.printJson(report);
  else cli.print(renderFailoverReport(cli, report));
}
