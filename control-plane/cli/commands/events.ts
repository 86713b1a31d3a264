import { Command } from 'commander';
import type { EventView } from '@dumont/shared/api/views.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { formatId, formatTime } from '../output/format.ts';
import { wholeNumber } from './options.ts';

const PAGE_SIZE = 500;

interface Options {
  readonly follow?: boolean;
  readonly after?: number;
  readonly workspace?: string;
}

export function eventsCommand(host: CommandHost): Command {
  return new Command('events')
    .description('what happened, oldest first; one JSON object a line with --json')
    .option('--follow', 'go on with events as they happen; alone, only those')
    .option('--after <id>', 'only events after this one', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .option('--workspace <workspace>', 'only those of a workspace')
    .action((options: Options) =>
      host.run((cli) => (options.follow === true ? followEvents(cli, options) : listEvents(cli, options))),
    );
}

async function listEvents(cli: Cli, { after = 0, workspace }: Options): Promise<void> {
  let cursor = after;
  for (;;) {
    const { items } = await cli.client.call('listEvents', { query: { after: cursor, workspace, limit: PAGE_SIZE } });
    for (const event of items) printEvent(cli, event);
    const last = items.at(-1);
    if (items.length < PAGE_SIZE || last === undefined) return;
    cursor = last.eventId;
  }
}

async function followEvents(cli: Cli, { after, workspace }: Options): Promise<void> {
  let wasLost = false;
  const onState = (state: 'connected' | 'reconnecting') => {
    if (state === 'connected' && wasLost) cli.note('Connected again.');
    if (state === 'reconnecting' && !wasLost) cli.note('Lost the control plane; connecting again …');
    wasLost = state === 'reconnecting';
  };
  for await (const event of cli.client.events({ after, workspace, onState, signal: cli.signal }))
    printEvent(cli, event);
}

function printEvent(cli: Cli, event: EventView): void {
  if (cli.json) {
    cli.printJson(event);
    return;
  }
  const { colors, isLive } = cli;
  const ids = [event.instanceId, event.operationId].filter((id) => id !== null).map((id) => formatId(id, isLive));
  const data = Object.entries(event.data).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const head = `${formatTime(event.atMs, isLive)}  ${String(event.eventId).padStart(6)}  ${event.type.padEnd(TYPE_WIDTH)}`;
  const rest = [...ids, ...data].join(' ');
  const room = Math.max(0, cli.width - head.length - 2);
  const shown = rest.length > room ? `${rest.slice(0, Math.max(0, room - 1))}…` : rest;
  cli.print(`${paintType(cli, event.type, head)}  ${colors.dim(shown)}`.trimEnd());
}

/** Room for the longest of our types. */
const TYPE_WIDTH = 24;

function paintType({ colors }: Cli, type: string, text: string): string {
  if (/fail|lost|confirm|fenc|quarantin|refus/.test(type)) return colors.red(text);
  if (/suspect|avert|releas/.test(type)) return colors.yellow(text);
  return /commit|complet|ready|served|switch|resum/.test(type) ? colors.green(text) : text;
}
