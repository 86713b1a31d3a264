import { Argument, Command, Option } from 'commander';
import type { ResponseOf } from '@dumont/shared/api/call.ts';
import type { BranchDetailView, BranchView } from '@dumont/shared/api/views.ts';
import type { MergeOutcome, MergeStrategy } from '@dumont/shared/model/branch.ts';
import { mergeStrategySchema } from '@dumont/shared/model/branch.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { Cli, CommandHost } from '../cli.ts';
import { collect, resolveBranchId } from '../ids.ts';
import { renderFacts } from '../output/facts.ts';
import { formatAge, formatId, NONE } from '../output/format.ts';
import { printList } from '../output/list.ts';
import { renderTable, type Column } from '../output/table.ts';
import { limitOption } from './options.ts';

/** The answer comes when the machine has fetched and placed everything, and snapshotted it. */
const MERGE_TIMEOUT_MS = 3_600_000;
/** How often a merge says that it goes on. */
const PATIENCE_MS = 10_000;

export function branchesCommand(host: CommandHost): Command {
  const group = new Command('branches').description('files that lost machines held and had not published');
  group
    .command('list')
    .description('list branches, newest first')
    .option('--workspace <workspace>', 'only those of a workspace')
    .option('--all', 'deleted ones too')
    .addOption(limitOption())
    .action((options: { workspace?: string; all?: boolean; limit: number }) =>
      host.run(async (cli) => {
        const { workspace, limit } = options;
        const all = options.all === true ? 'true' : 'false';
        const list = await collect(limit, (page) =>
          cli.client.call('listBranches', { query: { ...page, workspace, all } }),
        );
        printList(cli, { ...list, columns: columns(cli), empty: 'There is no branch.' });
      }),
    );
  group
    .command('show')
    .description('a branch and the paths that differ in it, newest first')
    .addArgument(BRANCH)
    .action((which: string) => host.run((cli) => showBranch(cli, which)));
  group
    .command('merge')
    .description("bring a branch's files into the workspace; overwrites nothing of the workspace's unless told to")
    .addArgument(BRANCH)
    .argument('[paths...]', 'only these files, or folders with all below them')
    .addOption(
      new Option('--strategy <strategy>', 'for files that both sides changed')
        .choices(mergeStrategySchema.options)
        .default('side-by-side'),
    )
    .action((which: string, paths: string[], { strategy }: { strategy: MergeStrategy }) =>
      host.run((cli) => merge(cli, which, { paths, strategy })),
    );
  group
    .command('delete')
    .description('delete a branch for good')
    .addArgument(BRANCH)
    .action((which: string) =>
      host.run(async (cli) => {
        const branchId = await resolveBranchId(cli, which);
        const branch = await cli.client.call('deleteBranch', { params: { branchId } });
        if (cli.json) cli.printJson(branch);
        else cli.print(`Branch ${branch.branchId} of ${branch.workspaceName} is deleted.`);
      }),
    );
  return group;
}

type BranchChange = BranchDetailView['changes'][number];
type MergeResult = ResponseOf<'mergeBranch'>['merge'];

const BRANCH = new Argument('<branch>', 'id or its beginning, or a workspace: its newest branch');

function columns(cli: Cli): readonly Column<BranchView>[] {
  const nowMs = cli.clock.nowMs();
  return [
    { title: 'BRANCH', cell: (item) => formatId(item.branchId, cli.isLive) },
    { title: 'WORKSPACE', cell: (item) => item.workspaceName },
    { title: 'STATE', cell: (item) => paintBranch(cli, item.state) },
    { title: 'ADDED', cell: (item) => String(item.addedCount), align: 'right' },
    { title: 'CHANGED', cell: (item) => String(item.changedCount), align: 'right' },
    { title: 'DELETED', cell: (item) => String(item.deletedCount), align: 'right', dropOrder: 2 },
    { title: 'SIZE', cell: (item) => formatBytes(item.changedBytes), align: 'right' },
    { title: 'CREATED', cell: (item) => formatAge(item.createdAtMs, nowMs) },
    { title: 'KEPT FOR', cell: (item) => keptFor(item, nowMs), dropOrder: 3 },
    { title: 'MACHINE', cell: (item) => formatId(item.instanceId, cli.isLive), dropOrder: 1 },
  ];
}

function paintBranch({ colors }: Pick<Cli, 'colors'>, state: BranchView['state']): string {
  if (state === 'open') return colors.yellow(state);
  return state === 'merged' ? colors.green(state) : colors.dim(state);
}

const DAY_MS = 86_400_000;

function keptFor({ state, expiresAtMs }: BranchView, nowMs: number): string {
  if (state === 'deleted') return NONE;
  const leftMs = Math.max(0, expiresAtMs - nowMs);
  return leftMs < 2 * DAY_MS ? formatDuration(leftMs) : `${Math.floor(leftMs / DAY_MS)} d`;
}

async function showBranch(cli: Cli, which: string): Promise<void> {
  const branchId = await resolveBranchId(cli, which);
  const branch = await cli.client.call('getBranch', { params: { branchId } });
  if (cli.json) {
    cli.printJson(branch);
    return;
  }
  cli.print(renderBranch(cli, branch));
}

function renderBranch(cli: Cli, branch: BranchDetailView): string {
  const { colors } = cli;
  const nowMs = cli.clock.nowMs();
  const { addedCount, changedCount, deletedCount, changedBytes, changes } = branch;
  const title = [
    colors.bold(branch.workspaceName),
    formatId(branch.branchId, cli.isLive),
    paintBranch(cli, branch.state),
    formatAge(branch.createdAtMs, nowMs),
  ].join(' · ');
  const facts = renderFacts(cli, [
    ['holds', [`${addedCount} added`, `${changedCount} changed`, `${deletedCount} deleted`, formatBytes(changedBytes)]],
    ['machine', [formatId(branch.instanceId, cli.isLive), `primary at epoch ${branch.epoch}`]],
    ['since', [branch.baseSnapshotId === null ? 'the beginning' : formatId(branch.baseSnapshotId, cli.isLive)]],
    ['kept for', branch.state === 'deleted' ? [] : [keptFor(branch, nowMs)]],
  ]);
  const table = renderTable(cli, changeColumns(cli, nowMs), changes);
  const more = addedCount + changedCount + deletedCount - changes.length;
  return [title, '', facts, '', table, ...(more > 0 ? [colors.dim(`… and ${more} more`)] : [])].join('\n');
}

function changeColumns({ colors }: Cli, nowMs: number): readonly Column<BranchChange>[] {
  const paint = { added: colors.green, changed: colors.yellow, deleted: colors.red } as const;
  return [
    { title: 'CHANGE', cell: ({ change }) => paint[change](change) },
    { title: 'PATH', cell: ({ path }) => path },
    { title: 'SIZE', cell: ({ sizeBytes }) => (sizeBytes === null ? NONE : formatBytes(sizeBytes)), align: 'right' },
    {
      title: 'MODIFIED',
      cell: ({ modifiedAtMs }) => (modifiedAtMs === null ? NONE : formatAge(modifiedAtMs, nowMs)),
      dropOrder: 1,
    },
  ];
}

async function merge(
  cli: Cli,
  which: string,
  { paths, strategy }: { readonly paths: readonly string[]; readonly strategy: MergeStrategy },
): Promise<void> {
  const branchId = await resolveBranchId(cli, which);
  const body = { strategy, ...(paths.length > 0 && { paths: [...paths] }) };
  const startMs = cli.clock.monotonicMs();
  const cancel = cli.clock.every(PATIENCE_MS, () => {
    cli.note(`merging for ${formatDuration(cli.clock.monotonicMs() - startMs)}: the machine fetches the files`);
  });
  try {
    const answer = await cli.client.call('mergeBranch', { params: { branchId }, body, timeoutMs: MERGE_TIMEOUT_MS });
    if (cli.json) cli.printJson(answer);
    else cli.print(renderMerge(cli, answer.branch, answer.merge));
  } finally {
    cancel();
  }
}

const WORDS: Readonly<Record<MergeOutcome, string>> = {
  taken: 'taken over',
  beside: 'put beside',
  same: 'there already',
  kept: 'left as the workspace has them',
  deleted: 'deleted',
};

function renderMerge(cli: Cli, branch: BranchView, { counts, paths, bytesWritten }: MergeResult): string {
  const said = Object.entries(WORDS).flatMap(([outcome, words]) => {
    const count = counts[outcome as MergeOutcome];
    return count === 0 ? [] : [`${count} ${words}`];
  });
  const headline = said.length === 0 ? 'nothing to do' : `${said.join(', ')}; ${formatBytes(bytesWritten)} fetched`;
  const lines = [
    `Branch ${formatId(branch.branchId, cli.isLive)} → ${cli.colors.bold(branch.workspaceName)}: ${headline}.`,
  ];
  for (const { path, outcome, as } of paths) {
    if (outcome === 'beside' && as !== undefined) lines.push(`  ${path}  →  ${as}`);
    if (outcome === 'kept') lines.push(cli.colors.dim(`  ${path}  kept`));
  }
  return lines.join('\n');
}
