import { Command, Option } from 'commander';
import type { MachineHistoryView } from '@dumont/shared/api/machine-history.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { formatAge, formatMaybeDuration, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { wholeNumber } from './options.ts';

/** The API answers one page. */
const MAX_ROWS = 500;

export function machineHistoryCommand(host: CommandHost): Command {
  return new Command('history')
    .description('how the machines on each host did: came up, failed, were lost')
    .option('--machine <host>', 'only this host')
    .addOption(new Option('--limit <n>', 'rows to show').default(100).argParser(wholeNumber(1, MAX_ROWS)))
    .action((options: { machine?: string; limit: number }) => host.run((cli) => listHistory(cli, options)));
}

export function forgetMachineCommand(host: CommandHost): Command {
  return new Command('forget')
    .description("strike out a host's past, so that it is tried again")
    .argument('<host>', 'as "dumont machines history" lists it')
    .option('--provider <provider>', "only this provider's")
    .action((machine: string, options: { provider?: string }) => host.run((cli) => forget(cli, machine, options)));
}

async function listHistory(
  cli: Cli,
  { machine, limit }: { readonly machine?: string; readonly limit: number },
): Promise<void> {
  const { items } = await cli.client.call('listMachineHistory', { query: { machine, limit } });
  const columns = historyColumns(cli);
  printList(cli, { items, hasMore: items.length === limit, columns, empty: 'No machine was ordered yet.' });
}

async function forget(cli: Cli, machine: string, { provider }: { readonly provider?: string }): Promise<void> {
  const { forgotten } = await cli.client.call('forgetMachineHistory', { body: { machine, provider } });
  if (forgotten === 0) {
    throw new DumontError('NOT_FOUND', `no machine was ever ordered on ${machine}`, {
      hint: 'See the hosts: dumont machines history.',
    });
  }
  if (cli.json) cli.printJson({ forgotten });
  else cli.print(`The past of ${machine} counts no more.`);
}

function historyColumns(cli: Cli): readonly Column<MachineHistoryView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'HOST', cell: ({ machineId }) => machineId },
    { title: 'PROVIDER', cell: ({ provider }) => provider },
    { title: 'GPU', cell: ({ gpuName }) => gpuName, dropOrder: 2 },
    { title: 'RENTED', cell: ({ rented }) => String(rented), align: 'right', dropOrder: 3 },
    { title: 'CAME UP', cell: ({ ready }) => String(ready), align: 'right' },
    { title: 'FAILED', cell: ({ failed }) => String(failed), align: 'right' },
    { title: 'LOST', cell: ({ interrupted }) => String(interrupted), align: 'right' },
    { title: 'SUCCESS', cell: successOf, align: 'right' },
    { title: 'BOOT', cell: ({ bootMs }) => formatMaybeDuration(bootMs), align: 'right', dropOrder: 4 },
    { title: 'SSH', cell: ({ sshMs }) => formatMaybeDuration(sshMs), align: 'right', dropOrder: 5 },
    { title: 'HELLO', cell: ({ helloMs }) => formatMaybeDuration(helloMs), align: 'right' },
    { title: 'SEEN', cell: ({ lastSeenAtMs }) => formatAge(lastSeenAtMs, nowMs), dropOrder: 6 },
    { title: 'STANDING', cell: (item) => standingOf(cli, item, nowMs) },
  ];
}

/** `80 % (55–93 %)`: the share that came up, and where it really is, by what is known. */
function successOf({ successRate, successLower, successUpper }: MachineHistoryView): string {
  if (successRate === null) return NONE;
  const percent = (share: number) => Math.round(share * 100);
  return `${percent(successRate)} % (${percent(successLower)}–${percent(successUpper)} %)`;
}

function standingOf({ colors }: Cli, { blacklistedUntilMs, lastFailure }: MachineHistoryView, nowMs: number): string {
  if (blacklistedUntilMs !== null) {
    return colors.red(`not tried for ${formatMaybeDuration(blacklistedUntilMs - nowMs)}: ${lastFailure ?? NONE}`);
  }
  return lastFailure === null ? colors.green('good') : colors.dim(`last failure: ${lastFailure}`);
}
