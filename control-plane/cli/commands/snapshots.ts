import { Argument, Command } from 'commander';
import type { SnapshotView } from '@dumont/shared/api/views.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { collect } from '../ids.ts';
import { formatAge, formatId } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { limitOption } from './options.ts';

/** The answer comes when the snapshot is committed; a first one of a large workspace takes its time. */
const TAKE_TIMEOUT_MS = 3_600_000;

export function snapshotsCommand(host: CommandHost): Command {
  const group = new Command('snapshots').description('committed snapshots of a workspace');
  group
    .command('list')
    .description('list snapshots, newest first; * marks the head')
    .addArgument(WORKSPACE)
    .addOption(limitOption())
    .action((workspace: string, options: { limit: number }) =>
      host.run(async (cli) => {
        const list = await collect(options.limit, (page) =>
          cli.client.call('listSnapshots', { query: { ...page, workspace } }),
        );
        printList(cli, { ...list, columns: columns(cli), empty: `${workspace} has no snapshot yet.` });
      }),
    );
  group
    .command('take')
    .description('snapshot a workspace now and wait until it is committed')
    .addArgument(WORKSPACE)
    .action((workspace: string) => host.run((cli) => takeSnapshot(cli, workspace)));
  return group;
}

const WORKSPACE = new Argument('<workspace>', 'name or id');

function columns(cli: Cli): readonly Column<SnapshotView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: '#', cell: (item) => `${item.seq}${item.isHead ? cli.colors.green('*') : ' '}`, align: 'right' },
    { title: 'SNAPSHOT', cell: (item) => formatId(item.snapshotId, cli.isLive) },
    { title: 'COMMITTED', cell: (item) => formatAge(item.committedAtMs, nowMs) },
    { title: 'FILES', cell: (item) => String(item.fileCount), align: 'right', dropOrder: 3 },
    { title: 'SIZE', cell: (item) => formatBytes(item.totalBytes), align: 'right' },
    { title: 'NEW', cell: (item) => formatBytes(item.newBytes), align: 'right', dropOrder: 1 },
    { title: 'STORED', cell: (item) => formatBytes(item.storedBytes), align: 'right' },
    { title: 'TOOK', cell: (item) => formatDuration(item.createMs), align: 'right', dropOrder: 2 },
    { title: 'EPOCH', cell: (item) => String(item.epoch), align: 'right', dropOrder: 4 },
    {
      title: 'TORN',
      cell: (item) => (item.tornPaths.length === 0 ? '' : cli.colors.yellow(String(item.tornPaths.length))),
      align: 'right',
      dropOrder: 5,
    },
  ];
}

async function takeSnapshot(cli: Cli, workspace: string): Promise<void> {
  const { snapshot } = await cli.client.call('takeSnapshot', { body: { workspace }, timeoutMs: TAKE_TIMEOUT_MS });
  if (cli.json) {
    cli.printJson({ snapshot });
  } else if (snapshot === null) {
    cli.print('Nothing changed since the last snapshot.');
  } else {
    const sizes = `${formatBytes(snapshot.newBytes)} new, stored as ${formatBytes(snapshot.storedBytes)}`;
    cli.print(`Snapshot #${snapshot.seq} ${snapshot.snapshotId}: ${sizes}, in ${formatDuration(snapshot.createMs)}.`);
    for (const path of snapshot.tornPaths) cli.note(`changed while it was read: ${path}`);
  }
}
