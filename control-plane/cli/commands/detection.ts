import { Command, Option } from 'commander';
import { DETECTION_GROUPS, type DetectionView } from '@dumont/shared/api/detection.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { formatCost, formatId, formatMaybeDuration, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { wholeNumber } from './options.ts';

/** The API answers one page. */
const MAX_ROWS = 500;

interface Options {
  readonly by: (typeof DETECTION_GROUPS)[number];
  readonly limit: number;
}

export function detectionCommand(host: CommandHost): Command {
  return new Command('detection')
    .description('how good the failure detector was: delays, mistakes and what they cost')
    .addOption(new Option('--by <what>', 'what a row is').choices(DETECTION_GROUPS).default('provider'))
    .addOption(new Option('--limit <n>', 'rows to show').default(100).argParser(wholeNumber(1, MAX_ROWS)))
    .action((options: Options) => host.run((cli) => listDetection(cli, options)));
}

async function listDetection(cli: Cli, { by, limit }: Options): Promise<void> {
  const { items } = await cli.client.call('listDetection', { query: { by, limit } });
  const columns = detectionColumns(cli, by);
  printList(cli, { items, hasMore: items.length === limit, columns, empty: 'No machine was watched yet.' });
}

function detectionColumns(cli: Cli, by: Options['by']): readonly Column<DetectionView>[] {
  const key: Record<Options['by'], readonly Column<DetectionView>[]> = {
    instance: [{ title: 'MACHINE', cell: ({ instanceId }) => formatId(instanceId ?? NONE, cli.isLive) }],
    host: [{ title: 'HOST', cell: ({ machineId }) => machineId ?? NONE }],
    provider: [],
  };
  return [
    { title: 'PROVIDER', cell: ({ provider }) => provider },
    ...key[by],
    { title: 'WATCHED', cell: ({ watchedMs }) => formatDuration(watchedMs), align: 'right' },
    { title: 'LOSSES', cell: ({ losses }) => String(losses), align: 'right' },
    { title: 'DETECTED IN', cell: ({ detectMs }) => formatMaybeDuration(detectMs), align: 'right' },
    { title: 'LONGEST', cell: ({ detectMaxMs }) => formatMaybeDuration(detectMaxMs), align: 'right', dropOrder: 3 },
    { title: 'SUSPECTED', cell: ({ suspects }) => String(suspects), align: 'right', dropOrder: 4 },
    { title: 'MISTAKES/MONTH', cell: ({ mistakesPerMonth }) => mistakesPerMonth?.toFixed(1) ?? NONE, align: 'right' },
    { title: 'EACH', cell: ({ mistakeMs }) => formatMaybeDuration(mistakeMs), align: 'right', dropOrder: 2 },
    { title: 'TRUSTED', cell: ({ queryAccuracy }) => percent(queryAccuracy), align: 'right', dropOrder: 1 },
    { title: 'AVERTED', cell: ({ averted }) => String(averted), align: 'right' },
    { title: 'FOR', cell: ({ avertedMicroUsd }) => formatCost(avertedMicroUsd), align: 'right' },
    { title: 'CAME BACK', cell: ({ returned }) => String(returned), align: 'right' },
  ];
}

function percent(share: number | null): string {
  return share === null ? NONE : `${(share * 100).toFixed(4)} %`;
}
