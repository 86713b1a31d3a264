import { Argument, Command, Option } from 'commander';
import type { LossKind } from '@dumont/shared/api/endpoints.ts';
import { LOSS_KINDS } from '@dumont/shared/api/endpoints.ts';
import type { InstanceView, LedgerTotals, LedgerView } from '@dumont/shared/api/views.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { followOperation } from '../follow.ts';
import { collect, resolveInstanceId } from '../ids.ts';
import { renderFacts } from '../output/facts.ts';
import { formatAge, formatId, formatMaybeDuration, formatPrice, formatCost, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import { paintState } from '../output/state.ts';
import type { Column } from '../output/table.ts';
import { addMachineCommand, pendingCommand, revokeCommand } from './enrolments.ts';
import { forgetMachineCommand, machineHistoryCommand } from './machine-history.ts';
import { limitOption } from './options.ts';

export function machinesCommand(host: CommandHost): Command {
  const group = new Command('machines').description('rented machines, and your own');
  group
    .command('list')
    .description('list rented machines, newest first')
    .option('--all', 'those already gone too')
    .option('--workspace <workspace>', 'only those of a workspace')
    .addOption(limitOption())
    .action((options: { all?: boolean; workspace?: string; limit: number }) =>
      host.run(async (cli) => {
        const query = { all: options.all === true ? 'true' : 'false', workspace: options.workspace } as const;
        const list = await collect(options.limit, (page) =>
          cli.client.call('listInstances', { query: { ...query, ...page } }),
        );
        printList(cli, { ...list, columns: machineColumns(cli), empty: 'No machines are rented.' });
      }),
    );
  group.addCommand(addMachineCommand(host));
  group.addCommand(pendingCommand(host));
  group.addCommand(revokeCommand(host));
  group
    .command('show')
    .description('show one machine')
    .addArgument(MACHINE)
    .action((id: string) => host.run((cli) => showMachine(cli, id)));
  group
    .command('stop')
    .description('stop and destroy a machine; a primary is snapshotted first')
    .addArgument(MACHINE)
    .option('--no-snapshot', 'destroy at once, losing what is not in a snapshot')
    .option('--wait', 'wait until it is done')
    .action((id: string, options: { snapshot: boolean; wait?: boolean }) =>
      host.run((cli) => stopMachine(cli, id, options)),
    );
  group
    .command('lose')
    .description('lose a machine of the local provider on purpose')
    .addArgument(MACHINE)
    .addOption(new Option('--how <how>', 'what happens to it').choices(LOSS_KINDS).makeOptionMandatory())
    .action((id: string, options: { how: LossKind }) => host.run((cli) => loseMachine(cli, id, options.how)));
  group
    .command('ledger')
    .description('every machine asked for, until proven gone')
    .option('--all', 'closed rows too')
    .addOption(limitOption())
    .action((options: { all?: boolean; limit: number }) => host.run((cli) => listLedger(cli, options)));
  group.addCommand(machineHistoryCommand(host));
  group.addCommand(forgetMachineCommand(host));
  return group;
}

const MACHINE = new Argument('<machine>', 'id of the machine, or its beginning');

function machineColumns(cli: Cli): readonly Column<InstanceView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'MACHINE', cell: (item) => formatId(item.instanceId, cli.isLive) },
    { title: 'WORKSPACE', cell: (item) => item.workspaceName },
    { title: 'STANDING', cell: (item) => paintState(cli.colors, item.standing), dropOrder: 1 },
    { title: 'STATE', cell: (item) => paintState(cli.colors, stateOf(item)) },
    { title: 'GPU', cell: (item) => item.gpuName, dropOrder: 2 },
    { title: 'WORKLOAD', cell: (item) => paintWorkload(cli, item), dropOrder: 5 },
    { title: 'UNSAVED', cell: (item) => formatMaybeDuration(item.unsavedMs), align: 'right', dropOrder: 4 },
    { title: 'PRICE', cell: (item) => formatPrice(item.priceMicroUsdPerHour), align: 'right' },
    { title: 'COST', cell: (item) => formatCost(item.costMicroUsd), align: 'right', dropOrder: 3 },
    { title: 'PROVIDER', cell: (item) => item.provider, dropOrder: 6 },
    { title: 'REGION', cell: (item) => item.region, dropOrder: 7 },
    { title: 'RENTED', cell: (item) => cli.colors.dim(formatAge(item.requestedAtMs, nowMs)), dropOrder: 4 },
  ];
}

function ledgerColumns(cli: Cli): readonly Column<LedgerView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'MACHINE', cell: (item) => formatId(item.instanceId, cli.isLive) },
    { title: 'PROVIDER', cell: (item) => item.provider },
    { title: 'STATUS', cell: (item) => ledgerStatus(cli, item) },
    { title: 'PRICE', cell: (item) => formatPrice(item.priceMicroUsdPerHour), align: 'right', dropOrder: 1 },
    { title: 'COST', cell: (item) => formatCost(item.costMicroUsd), align: 'right' },
    { title: 'ASKED', cell: (item) => formatAge(item.requestedAtMs, nowMs), dropOrder: 2 },
    { title: 'REF', cell: (item) => item.providerRef ?? NONE, dropOrder: 3 },
    { title: 'OUTCOME', cell: (item) => cli.colors.dim(item.outcome ?? NONE), dropOrder: 4 },
  ];
}

async function listLedger(cli: Cli, options: { readonly all?: boolean; readonly limit: number }): Promise<void> {
  const all = options.all === true ? 'true' : 'false';
  let totals: LedgerTotals | undefined;
  const list = await collect(options.limit, async (page) => {
    const answer = await cli.client.call('listLedger', { query: { ...page, all } });
    ({ totals } = answer);
    return answer;
  });
  printList(cli, { ...list, columns: ledgerColumns(cli), empty: 'Nothing is rented: the ledger is closed.' });
  if (totals === undefined || totals.costMicroUsd === 0) return;
  const { costMicroUsd, orphanCount, orphanMicroUsd } = totals;
  const parts = [`${formatCost(costMicroUsd)} in all`, `${formatCost(orphanMicroUsd)} of it while nobody wanted them`];
  if (orphanCount > 0) parts.push(`${orphanCount} not proven gone for a minute and more`);
  cli.note(`${parts.join(' · ')}.`);
}

function ledgerStatus({ colors }: Cli, row: LedgerView): string {
  if (row.goneAtMs !== null) return colors.dim('gone');
  if (row.releaseAskedAtMs !== null) return colors.yellow(`releasing (${row.goneConfirmations}/2)`);
  return row.rentedAtMs === null ? colors.yellow('asked for') : colors.green('rented');
}

/** The detector's doubt, when there is one, says more than the state. */
function stateOf(machine: InstanceView): string {
  if (machine.state !== 'ready') return machine.state;
  if (machine.liveness === 'suspect' || machine.liveness === 'confirmed') return machine.liveness;
  return machine.connected ? 'ready' : 'unconnected';
}

function paintWorkload(cli: Cli, machine: InstanceView): string {
  return machine.workload === null ? NONE : paintState(cli.colors, machine.workload);
}

async function showMachine(cli: Cli, idOrPrefix: string): Promise<void> {
  const instanceId = await resolveInstanceId(cli, idOrPrefix);
  const machine = await cli.client.call('getInstance', { params: { instanceId } });
  if (cli.json) {
    cli.printJson(machine);
    return;
  }
  const nowMs = cli.clock.nowMs();
  const { colors } = cli;
  const ready =
    machine.readyAtMs === null ? [] : [`ready after ${formatDuration(machine.readyAtMs - machine.requestedAtMs)}`];
  const gone = machine.goneAtMs === null ? [] : [`gone ${formatAge(machine.goneAtMs, nowMs)}`];
  cli.print([colors.bold(machine.instanceId), paintState(colors, stateOf(machine))].join(' · '));
  cli.print('');
  cli.print(
    renderFacts(cli, [
      ['workspace', [machine.workspaceName, paintState(colors, machine.standing), `role ${machine.role}`]],
      ['machine', [machine.gpuName, machine.provider, machine.region, machine.machineId]],
      ['ref', machine.providerRef === null ? [] : [machine.providerRef]],
      [
        'agent',
        [
          machine.connected ? colors.green('connected') : 'not connected',
          `detector: ${machine.liveness ?? 'not watching'}`,
        ],
      ],
      ['workload', [paintWorkload(cli, machine)]],
      ['unsaved', unsavedOf(machine)],
      ['price', [formatPrice(machine.priceMicroUsdPerHour), `${formatCost(machine.costMicroUsd)} so far`]],
      ['rented', [formatAge(machine.requestedAtMs, nowMs), ...ready, ...gone]],
    ]),
  );
}

async function stopMachine(
  cli: Cli,
  idOrPrefix: string,
  options: { readonly snapshot: boolean; readonly wait?: boolean },
): Promise<number> {
  const instanceId = await resolveInstanceId(cli, idOrPrefix);
  const query = { snapshot: options.snapshot ? 'true' : 'false' } as const;
  const started = await cli.client.call('destroyInstance', { params: { instanceId }, query });
  if (options.wait !== true) {
    if (cli.json) cli.printJson(started);
    else cli.print(`Stopping ${instanceId}. Progress: dumont operations show ${started.operationId}`);
    return 0;
  }
  const operation = await followOperation(cli, started.operationId);
  if (cli.json) cli.printJson(operation);
  else cli.print(operation.error === null ? `Stopped ${instanceId}.` : cli.colors.red(operation.error));
  return operation.error === null ? 0 : 1;
}

async function loseMachine(cli: Cli, idOrPrefix: string, how: LossKind): Promise<void> {
  const instanceId = await resolveInstanceId(cli, idOrPrefix);
  const loss = await cli.client.call('injectLoss', { params: { instanceId }, body: { kind: how } });
  if (cli.json) cli.printJson(loss);
  else cli.print(`${LOSS_WORDS[how]} ${instanceId}. Watch: dumont failover status`);
}

const LOSS_WORDS: Readonly<Record<LossKind, string>> = {
  kill: 'Killed',
  freeze: 'Froze',
  partition: 'Cut the network of',
};

function unsavedOf({ unsavedMs, unsavedBytes }: InstanceView): readonly string[] {
  if (unsavedMs === null) return [];
  return [formatDuration(unsavedMs), ...(unsavedBytes === null ? [] : [formatBytes(unsavedBytes)])];
}
