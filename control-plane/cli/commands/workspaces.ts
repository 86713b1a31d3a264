import { Argument, Command } from 'commander';
import type { WorkspaceView } from '@dumont/shared/api/views.ts';
import { wantsStandby } from '@dumont/shared/model/policy.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { collect } from '../ids.ts';
import { renderFacts } from '../output/facts.ts';
import { formatAge, formatId, formatPrice, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { limitOption } from './options.ts';

export function workspacesCommand(host: CommandHost): Command {
  const group = new Command('workspaces').description('workspaces');
  group
    .command('list')
    .description('list workspaces by name')
    .addOption(limitOption())
    .action((options: { limit: number }) =>
      host.run(async (cli) => {
        const list = await collect(options.limit, (page) => cli.client.call('listWorkspaces', { query: page }));
        printList(cli, { ...list, columns: columns(cli), empty: 'There is no workspace yet.' });
      }),
    );
  group
    .command('show')
    .description('show one workspace and its policy')
    .addArgument(new Argument('<workspace>', 'name or id'))
    .action((workspace: string) => host.run((cli) => showWorkspace(cli, workspace)));
  return group;
}

function columns(cli: Cli): readonly Column<WorkspaceView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'WORKSPACE', cell: (item) => cli.colors.bold(item.name) },
    { title: 'STATUS', cell: (item) => statusOf(cli, item) },
    {
      title: 'PRIMARY',
      cell: (item) => (item.primaryInstanceId === null ? NONE : formatId(item.primaryInstanceId, cli.isLive)),
    },
    { title: 'SSH', cell: (item) => sshOf(item) ?? NONE, dropOrder: 4 },
    { title: 'EPOCH', cell: (item) => String(item.epoch), align: 'right', dropOrder: 2 },
    {
      title: 'LAST SNAPSHOT',
      cell: (item) => (item.headCommittedAtMs === null ? NONE : formatAge(item.headCommittedAtMs, nowMs)),
    },
    { title: 'CREATED', cell: (item) => cli.colors.dim(formatAge(item.createdAtMs, nowMs)), dropOrder: 1 },
    { title: 'ID', cell: (item) => formatId(item.workspaceId, cli.isLive), dropOrder: 3 },
  ];
}

function statusOf({ colors }: Cli, workspace: WorkspaceView): string {
  if (workspace.operationId !== null) return colors.yellow('moving');
  return workspace.primaryInstanceId === null ? colors.dim('no machine') : colors.green('served');
}

async function showWorkspace(cli: Cli, idOrName: string): Promise<void> {
  const workspace = await cli.client.call('getWorkspace', { params: { workspace: idOrName } });
  if (cli.json) {
    cli.printJson(workspace);
    return;
  }
  const nowMs = cli.clock.nowMs();
  const { policy, headSnapshotId, headCommittedAtMs } = workspace;
  const race = policy.strategy === 'race' ? [`${policy.raceWidth} machines at once`] : [];
  cli.print([cli.colors.bold(workspace.name), workspace.workspaceId, statusOf(cli, workspace)].join(' · '));
  cli.print('');
  cli.print(
    renderFacts(cli, [
      ['primary', [workspace.primaryInstanceId ?? NONE, ...servedFacts(workspace), `epoch ${workspace.epoch}`]],
      ['ssh', sshFacts(workspace)],
      ['http', workspace.gateway.http === null ? [] : [workspace.gateway.http, openTo(policy.ports)]],
      ['standby', standbyFacts(workspace)],
      ['moved by', workspace.operationId === null ? [] : [workspace.operationId]],
      [
        'snapshot',
        headSnapshotId === null ? ['none yet'] : [headSnapshotId, formatAge(headCommittedAtMs ?? nowMs, nowMs)],
      ],
      ['snapshots', [`every ${formatDuration(policy.snapshotIntervalMs)} while there are changes`]],
      ['failover', [`strategy ${policy.strategy}`, ...race, `detection ${policy.detectMode}`]],
      ['offers', offerParts(policy.offers)],
      ['workload', workloadFacts(policy.workload)],
      ['created', [formatAge(workspace.createdAtMs, nowMs)]],
    ]),
  );
}

/** `host:port`; undefined without an address. */
function sshOf({ gateway: { ssh } }: WorkspaceView): string | undefined {
  return ssh === null ? undefined : `${ssh.host}:${ssh.port}`;
}

function servedFacts({ servedBy }: WorkspaceView): readonly string[] {
  return servedBy === 'standby' ? ['the standby, until a GPU machine is ready'] : [];
}

function standbyFacts({ standby, policy }: WorkspaceView): readonly string[] {
  if (standby === null) return wantsStandby(policy) ? ['none yet'] : [];
  const { instanceId, state, behindMs, behindBytes } = standby;
  const behind = behindMs === 0 ? 'has everything' : `${formatDuration(behindMs ?? 0)} behind`;
  const lacks = behindBytes === null || behindBytes === 0 ? [] : [`lacks ${formatBytes(behindBytes)}`];
  return [instanceId, state, ...(behindMs === null ? ['not in sync yet'] : [behind, ...lacks])];
}

function workloadFacts(workload: WorkspaceView['policy']['workload']): readonly string[] {
  if (workload === undefined) return ['none'];
  const { command, kind } = workload;
  return kind === undefined ? [command] : [command, kind];
}

function sshFacts(workspace: WorkspaceView): readonly string[] {
  const address = sshOf(workspace);
  return address === undefined ? [] : [address, `dumont ssh ${workspace.name}`];
}

function openTo(ports: WorkspaceView['policy']['ports']): string {
  return ports.public ? 'open to everybody' : 'with a token';
}

function offerParts(offers: WorkspaceView['policy']['offers']): readonly string[] {
  return [
    `up to ${formatPrice(offers.maxPriceMicroUsdPerHour)}`,
    `reliability from ${offers.minReliability}`,
    `disk from ${offers.minDiskGb} GB`,
    offers.gpuNames.length === 0 ? 'any GPU' : offers.gpuNames.join(', '),
    ...(offers.allowRegions.length === 0 ? [] : [`in ${offers.allowRegions.join(', ')}`]),
    ...(offers.denyRegions.length === 0 ? [] : [`not in ${offers.denyRegions.join(', ')}`]),
  ];
}
