import type { Simulation } from '@dumont/shared/api/simulation.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli } from '../cli.ts';
import type { Fact } from './facts.ts';
import { renderFacts } from './facts.ts';
import { formatAge, formatCost, formatId, formatPrice } from './format.ts';
import type { Column } from './table.ts';
import { renderTable } from './table.ts';

type View = Pick<Cli, 'colors' | 'width' | 'isLive' | 'clock'>;

/** What a failover would do now, for people. */
export function renderSimulation(cli: View, simulation: Simulation): string {
  const { colors } = cli;
  const { blockers, warnings, refusals, loss } = simulation;
  const lost = loss === null ? 'everything would be lost' : `up to ${formatDuration(loss.ms)} of work would be lost`;
  const served = `users would be served again in about ${colors.bold(formatDuration(simulation.expectedTotalMs))}`;
  const headline = simulation.possible
    ? `${colors.green(served)} · ${lost} · cost ${formatCost(simulation.expectedCostMicroUsd)} until then`
    : colors.red('a failover would not come through now');
  const out = refusals.map(({ reason, count }) => `${count} ${reason}`);
  return [
    `${colors.bold(simulation.workspaceName)} · if its primary were lost now; nothing is rented\n${headline}`,
    [...blockers.map((text) => colors.red(`✗ ${text}`)), ...warnings.map((text) => colors.yellow(`! ${text}`))].join(
      '\n',
    ),
    renderTable(cli, PHASE_COLUMNS, simulation.phases),
    simulation.offers.length === 0 ? '' : renderTable(cli, OFFER_COLUMNS, simulation.offers),
    renderFacts(cli, [...factsOf(cli, simulation), ['out', out]]),
  ]
    .filter((part) => part !== '')
    .join('\n\n');
}

const BASIS: Readonly<Record<Simulation['phases'][number]['basis'], string>> = {
  workspace: 'failovers of this workspace',
  installation: 'failovers of all workspaces',
  assumed: 'assumed: there is no history',
};

const PHASE_COLUMNS: readonly Column<Simulation['phases'][number]>[] = [
  { title: 'PHASE', cell: ({ phase }) => phase },
  { title: 'EXPECTED', cell: ({ expectedMs }) => formatDuration(expectedMs), align: 'right' },
  {
    title: 'FROM',
    cell: ({ basis, samples }) => (samples === 0 ? BASIS[basis] : `median of ${samples} ${BASIS[basis]}`),
  },
];

const OFFER_COLUMNS: readonly Column<Simulation['offers'][number]>[] = [
  { title: '#', cell: ({ rank }) => String(rank), align: 'right' },
  { title: 'GPU', cell: ({ offer }) => (offer.gpuCount > 1 ? `${offer.gpuCount} × ${offer.gpuName}` : offer.gpuName) },
  { title: 'PROVIDER', cell: ({ offer }) => offer.provider },
  { title: 'REGION', cell: ({ offer }) => offer.region, dropOrder: 2 },
  { title: 'PRICE', cell: ({ offer }) => formatPrice(offer.priceMicroUsdPerHour), align: 'right' },
  { title: 'WITH RISK', cell: (item) => formatPrice(item.expectedMicroUsdPerHour), align: 'right', dropOrder: 1 },
  { title: 'RELIABILITY', cell: ({ offer }) => `${(offer.reliability * 100).toFixed(1)} %`, align: 'right' },
  { title: 'KIND', cell: ({ offer }) => offer.kind, dropOrder: 3 },
  { title: 'HOST', cell: ({ offer }) => offer.machineId, dropOrder: 4 },
];

function factsOf(cli: View, simulation: Simulation): readonly Fact[] {
  const { strategy, machinesAtOnce, offersFitting, offersSeen, snapshot, standby, primary, loss } = simulation;
  const nowMs = cli.clock.nowMs();
  return [
    ['strategy', [strategy, `${machinesAtOnce} at once`, `${offersFitting} of ${offersSeen} offers fit`]],
    ['primary', primary === null ? [] : primaryParts(cli, primary)],
    [
      'snapshot',
      snapshot === null
        ? []
        : [
            formatId(snapshot.snapshotId, cli.isLive),
            formatBytes(snapshot.totalBytes),
            formatAge(snapshot.committedAtMs, nowMs),
          ],
    ],
    ['standby', standby === null ? [] : standbyParts(cli, standby)],
    ['restored', loss === null ? [] : [loss.from === 'standby' ? "from the standby's copy" : 'from the last snapshot']],
  ];
}

function primaryParts(cli: View, { instanceId, connected, unsavedMs }: NonNullable<Simulation['primary']>) {
  const unsaved = unsavedMs === null ? [] : [`unsaved ${formatDuration(unsavedMs)}`];
  return [formatId(instanceId, cli.isLive), connected ? 'connected' : 'not connected', ...unsaved];
}

function standbyParts(cli: View, { instanceId, state, connected, behindMs }: NonNullable<Simulation['standby']>) {
  const behind = behindMs === null ? 'has not everything yet' : `${formatDuration(behindMs)} behind`;
  return [formatId(instanceId, cli.isLive), state, connected ? behind : 'not connected'];
}
