import { Argument, Command } from 'commander';
import type { EnrolmentView } from '@dumont/shared/api/views.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { collect, resolveInstanceId } from '../ids.ts';
import { formatAge, formatId } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { limitOption } from './options.ts';

/** `machines add`: a machine of one's own, and the command to run on it. */
export function addMachineCommand(host: CommandHost): Command {
  return new Command('add')
    .description('add a machine of your own as the first of a new workspace')
    .requiredOption('--workspace <name>', 'name of the new workspace')
    .action((options: { workspace: string }) => host.run((cli) => addMachine(cli, options.workspace)));
}

/** `machines pending`: tokens given out and not used. */
export function pendingCommand(host: CommandHost): Command {
  return new Command('pending')
    .description('list machines that have a token and did not join yet')
    .addOption(limitOption())
    .action((options: { limit: number }) =>
      host.run(async (cli) => {
        const list = await collect(options.limit, (page) => cli.client.call('listEnrolments', { query: page }));
        printList(cli, { ...list, columns: columns(cli), empty: 'No machine is waited for.' });
      }),
    );
}

/** `machines revoke`: makes a token worthless before somebody uses it. */
export function revokeCommand(host: CommandHost): Command {
  return new Command('revoke')
    .description("make a machine's unused token worthless")
    .addArgument(new Argument('<machine>', 'id of the machine, or its beginning'))
    .action((id: string) => host.run((cli) => revoke(cli, id)));
}

function columns(cli: Cli): readonly Column<EnrolmentView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'MACHINE', cell: (item) => formatId(item.instanceId, cli.isLive) },
    { title: 'WORKSPACE', cell: (item) => formatId(item.workspaceId, cli.isLive) },
    { title: 'PROVIDER', cell: (item) => item.provider },
    { title: 'TOKEN', cell: (item) => validity(cli, item, nowMs) },
    { title: 'SINCE', cell: (item) => formatAge(item.createdAtMs, nowMs), dropOrder: 1 },
  ];
}

function validity({ colors }: Cli, { expiresAtMs }: EnrolmentView, nowMs: number): string {
  if (expiresAtMs <= nowMs) return colors.dim('expired');
  return `valid for ${formatDuration(expiresAtMs - nowMs)}`;
}

async function addMachine(cli: Cli, workspace: string): Promise<void> {
  const added = await cli.client.call('addMachine', { body: { workspace } });
  if (cli.json) {
    cli.printJson(added);
    return;
  }
  const validMs = added.expiresAtMs - cli.clock.nowMs();
  cli.print(`Workspace ${workspace} waits for your machine ${added.instanceId}. Run this on it:`);
  cli.print('');
  cli.print(`  ${added.installCommand}`);
  cli.print('');
  cli.print(`The token in it can be used once, for ${formatDuration(validMs)}; it is not shown again.`);
  cli.print(`Progress: dumont operations show ${added.operationId}`);
}

async function revoke(cli: Cli, idOrPrefix: string): Promise<void> {
  const instanceId = await resolveInstanceId(cli, idOrPrefix);
  const answer = await cli.client.call('revokeEnrolment', { params: { instanceId } });
  if (cli.json) cli.printJson(answer);
  else
    cli.print(answer.revoked ? `The token of ${instanceId} is worthless now.` : `${instanceId} has no unused token.`);
}
