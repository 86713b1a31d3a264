import { Argument, type Command } from 'commander';
import type { CommandHost } from '../cli.ts';
import { renderSimulation } from '../output/simulation.ts';
import type { SaveOptions } from '../report/save-report.ts';
import { formatOption, outOption } from '../report/save-report.ts';
import { limitOption } from './options.ts';
import { followTest, listTests, showTest } from './test-views.ts';

/** What of `dumont failover` tries a failover out, or only thinks it through. */
export function addFailoverTests(group: Command, host: CommandHost): void {
  group
    .command('simulate')
    .description('what would happen if the primary were lost now; rents nothing')
    .addArgument(new Argument('<workspace>', 'name or id'))
    .action((workspace: string) =>
      host.run(async (cli) => {
        const simulation = await cli.client.call('simulateFailover', { body: { workspace } });
        if (cli.json) cli.printJson(simulation);
        else cli.print(renderSimulation(cli, simulation));
        return simulation.possible ? 0 : 1;
      }),
    );
  group
    .command('test-real')
    .description('restore a fresh snapshot on a rented machine, verify every byte, give it back; the primary goes on')
    .addArgument(new Argument('<workspace>', 'name or id'))
    .option('--model <model>', 'have this model answer there as well')
    .option('--no-wait', 'return as soon as it is begun')
    .addOption(formatOption())
    .addOption(outOption())
    .action((workspace: string, options: SaveOptions & { model?: string; wait: boolean }) =>
      host.run(async (cli) => {
        const { model } = options;
        const { testId } = await cli.client.call('testFailover', { body: { workspace, model } });
        return followTest(cli, testId, options);
      }),
    );
  group
    .command('test-real-report')
    .description('the report of such a test, the latest by default')
    .addArgument(new Argument('[test]', 'id or its beginning, or a workspace: its latest'))
    .addOption(formatOption())
    .addOption(outOption())
    .action((which: string | undefined, options: SaveOptions) =>
      host.run((cli) => showTest(cli, { which, kind: 'failover-test', ...options })),
    );
  group
    .command('test-real-history')
    .description('such tests, newest first')
    .option('--workspace <workspace>', 'only those of a workspace')
    .addOption(limitOption())
    .action((options: { workspace?: string; limit: number }) =>
      host.run((cli) => listTests(cli, { ...options, kind: 'failover-test' })),
    );
}
