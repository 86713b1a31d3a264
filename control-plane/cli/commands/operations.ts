import { Argument, Command } from 'commander';
import type { OperationSummary } from '@dumont/shared/api/views.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { collect, resolveOperationId } from '../ids.ts';
import { formatAge, formatId, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import { renderOperation } from '../output/operation.ts';
import { paintState } from '../output/state.ts';
import type { Column } from '../output/table.ts';
import { limitOption } from './options.ts';

export function operationsCommand(host: CommandHost): Command {
  const group = new Command('operations').description('durable operations: provision, failover, release, standby');
  group
    .command('list')
    .description('list operations, newest first')
    .option('--workspace <workspace>', 'only those of a workspace')
    .addOption(limitOption())
    .action((options: { workspace?: string; limit: number }) =>
      host.run(async (cli) => {
        const { workspace } = options;
        const list = await collect(options.limit, (page) =>
          cli.client.call('listOperations', { query: { ...page, workspace } }),
        );
        printList(cli, { ...list, columns: columns(cli), empty: 'There was no operation yet.' });
      }),
    );
  group
    .command('show')
    .description('state and steps of one operation')
    .addArgument(new Argument('<operation>', 'id or its beginning'))
    .action((id: string) =>
      host.run(async (cli) => {
        const operationId = await resolveOperationId(cli, id);
        const operation = await cli.client.call('getOperation', { params: { operationId } });
        if (cli.json) cli.printJson(operation);
        else cli.print(renderOperation(cli, operation));
      }),
    );
  return group;
}

function columns(cli: Cli): readonly Column<OperationSummary>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'OPERATION', cell: (item) => formatId(item.operationId, cli.isLive) },
    { title: 'KIND', cell: (item) => item.kind },
    { title: 'STATE', cell: (item) => paintState(cli.colors, item.state) },
    {
      title: 'WORKSPACE',
      cell: (item) => (item.workspaceId === null ? NONE : formatId(item.workspaceId, cli.isLive)),
      dropOrder: 2,
    },
    { title: 'STARTED', cell: (item) => formatAge(item.createdAtMs, nowMs) },
    { title: 'ERROR', cell: (item) => item.error ?? '', dropOrder: 1 },
  ];
}
