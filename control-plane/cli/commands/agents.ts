import { Argument, Command } from 'commander';
import type { AgentView } from '@dumont/shared/api/views.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { collect, resolveInstanceId } from '../ids.ts';
import { formatId, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import type { Column } from '../output/table.ts';
import { limitOption } from './options.ts';

/** Between two looks at an upgrade that is waited for. */
const POLL_MS = 500;

export function agentsCommand(host: CommandHost): Command {
  const group = new Command('agents').description('the agents on the machines, and their versions');
  group
    .command('list')
    .description('list agents, newest machine first')
    .option('--workspace <workspace>', 'only those of a workspace')
    .addOption(limitOption())
    .action((options: { workspace?: string; limit: number }) =>
      host.run(async (cli) => {
        const releases: { newest: string | null } = { newest: null };
        const list = await collect(options.limit, async (page) => {
          const answer = await cli.client.call('listAgents', { query: { workspace: options.workspace, ...page } });
          releases.newest = answer.newestVersion;
          return answer;
        });
        const { newest } = releases;
        printList(cli, { ...list, columns: agentColumns(cli, newest), empty: 'No machines are rented.' });
        cli.note(newest === null ? 'No release of the agent was built.' : `Newest release: ${newest}.`);
      }),
    );
  group
    .command('upgrade')
    .description('bring agents to another version; their workloads run on')
    .addArgument(new Argument('[machine]', 'id of the machine, or its beginning'))
    .option('--workspace <workspace>', 'the agents of a workspace')
    .option('--all', 'every agent')
    .option('--to <version>', 'instead of the newest release')
    .option('--force', 'also to an older version, or to one that was rolled back')
    .option('--wait', 'wait until it is done')
    .action((machine: string | undefined, options: UpgradeOptions) =>
      host.run((cli) => upgradeAgents(cli, machine, options)),
    );
  return group;
}

interface UpgradeOptions {
  readonly workspace?: string;
  readonly all?: boolean;
  readonly to?: string;
  readonly force?: boolean;
  readonly wait?: boolean;
}

function agentColumns(cli: Cli, newest: string | null): readonly Column<AgentView>[] {
  return [
    { title: 'MACHINE', cell: (item) => formatId(item.instanceId, cli.isLive) },
    { title: 'WORKSPACE', cell: (item) => item.workspaceName },
    { title: 'ROLE', cell: (item) => item.role, dropOrder: 1 },
    { title: 'VERSION', cell: (item) => paintVersion(cli, item.version, newest) },
    { title: 'UPGRADE', cell: (item) => upgradeWords(cli, item) },
  ];
}

function paintVersion({ colors }: Cli, version: string | null, newest: string | null): string {
  if (version === null) return colors.dim('not connected');
  return newest === null || version === newest ? version : colors.yellow(version);
}

function upgradeWords({ colors }: Cli, { upgrade, upgradable }: AgentView): string {
  if (upgrade === null) return upgradable === false ? colors.dim('not installed') : NONE;
  if (upgrade.state === 'failed') return colors.red(`failed: ${upgrade.error ?? 'unknown'}`);
  return colors.yellow(`${upgrade.state}: ${upgrade.to}`);
}

async function upgradeAgents(cli: Cli, machine: string | undefined, options: UpgradeOptions): Promise<number> {
  const instanceId = machine === undefined ? undefined : await resolveInstanceId(cli, machine);
  const named = [instanceId, options.workspace, options.all].filter((each) => each !== undefined);
  if (named.length !== 1) {
    throw new DumontError('USAGE', 'name a machine, or a workspace with --workspace, or say --all');
  }
  const { workspace, all, to: version, force = false } = options;
  const answer = await cli.client.call('upgradeAgents', {
    body: { instanceId, workspace, all: all === true ? true : undefined, version, force },
  });
  const ordered = answer.agents.filter(({ outcome }) => outcome === 'ordered').map((agent) => agent.instanceId);
  if (!cli.json) {
    for (const { instanceId: id, outcome, reason } of answer.agents) {
      if (outcome === 'refused') cli.note(`${id}: refused, ${reason}`);
    }
    const current = answer.agents.filter(({ outcome }) => outcome === 'current').length;
    cli.print(`Version ${answer.version}: ${ordered.length} to upgrade, ${current} run it already.`);
  }
  const failed = options.wait === true ? await follow(cli, ordered) : [];
  if (cli.json) cli.printJson({ ...answer, failed });
  for (const { instanceId: id, upgrade } of failed) cli.note(`${id}: ${upgrade?.error ?? 'failed'}`);
  const isRefused = ordered.length === 0 && answer.agents.some(({ outcome }) => outcome === 'refused');
  return failed.length > 0 || isRefused ? 1 : 0;
}

/** Waits until none of the agents has an upgrade before it. @returns those whose upgrade failed */
async function follow(cli: Cli, instanceIds: readonly string[]): Promise<readonly AgentView[]> {
  const followed = new Set(instanceIds);
  for (;;) {
    const { items } = await collect(Number.MAX_SAFE_INTEGER, (page) => cli.client.call('listAgents', { query: page }));
    const agents = items.filter((item) => followed.has(item.instanceId));
    const isOver = agents.every(({ upgrade }) => upgrade === null || upgrade.state === 'failed');
    if (isOver) return agents.filter(({ upgrade }) => upgrade !== null);
    await cli.clock.sleep(POLL_MS, cli.signal);
  }
}
