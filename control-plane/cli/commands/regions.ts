import { Command } from 'commander';
import type { RegionView } from '@dumont/shared/api/region-endpoints.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { formatPrice, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { limitOption } from './options.ts';

export function regionsCommand(host: CommandHost): Command {
  return new Command('regions')
    .description('where a standby can be, nearest to a place first')
    .argument('[near...]', 'a country, "Texas, US", a zone of Google, or an IP address')
    .addOption(limitOption())
    .action((words: readonly string[], { limit }: { limit: number }) =>
      host.run(async (cli) => {
        const near = words.join(' ');
        const { items } = await cli.client.call('listRegions', { query: near === '' ? {} : { near } });
        const shown = { items: items.slice(0, limit), hasMore: items.length > limit };
        printList(cli, { ...shown, columns: regionColumns(cli), empty: 'No regions are known.' });
      }),
    );
}

function regionColumns(cli: Cli): readonly Column<RegionView>[] {
  const price = (item: RegionView) =>
    item.spotMicroUsdPerHour === null ? NONE : formatPrice(item.spotMicroUsdPerHour);
  return [
    { title: 'REGION', cell: (item) => item.name },
    { title: 'CITY', cell: (item) => `${item.city}, ${item.country}` },
    { title: 'DISTANCE', cell: (item) => (item.km === null ? NONE : `${item.km} km`), align: 'right' },
    { title: 'RTT', cell: (item) => (item.plannedRttMs === null ? NONE : `${item.plannedRttMs} ms`), align: 'right' },
    { title: 'SPOT', cell: price, align: 'right' },
    { title: 'ZONES', cell: (item) => cli.colors.dim(item.zones.join(' ')), dropOrder: 1 },
  ];
}
