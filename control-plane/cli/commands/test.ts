import { Argument, Command, InvalidArgumentError, Option } from 'commander';
import { microUsd } from '@dumont/shared/model/money.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { CommandHost } from '../cli.ts';
import { resolveTestId } from '../ids.ts';
import type { SaveOptions } from '../report/save-report.ts';
import { formatOption, outOption } from '../report/save-report.ts';
import { limitOption } from './options.ts';
import { followTest, listTests, showTest } from './test-views.ts';

interface ProviderOptions extends SaveOptions {
  readonly real?: boolean;
  readonly provider?: string;
  readonly gpuName?: string;
  readonly maxCost?: number;
  readonly gpu: boolean;
  readonly wait: boolean;
}

export function testCommand(host: CommandHost): Command {
  const group = new Command('test').description('tests on machines that are rented for them');
  group
    .command('failover')
    .description('rent one machine of a provider, try it in seven steps, destroy it')
    .option('--real', 'yes: it costs money')
    .option('--provider <name>', 'which provider; needed where there are several')
    .option('--gpu-name <name>', 'only this GPU')
    .addOption(new Option('--max-cost <usd>', 'what it may cost at most, dollars (0.10)').argParser(dollars))
    .option('--no-gpu', 'the machines have no GPU to show')
    .option('--no-wait', 'return as soon as it is begun')
    .addOption(formatOption())
    .addOption(outOption())
    .action((options: ProviderOptions) =>
      host.run(async (cli) => {
        if (options.real !== true) {
          throw new DumontError('USAGE', 'this rents a machine, which costs money', {
            field: 'real',
            hint: 'Add --real. What a failover would do, without renting: dumont failover simulate.',
          });
        }
        const { provider, gpuName, maxCost, gpu: requireGpu } = options;
        const maxCostMicroUsd = maxCost === undefined ? undefined : microUsd(maxCost);
        const body = { provider, gpuName, maxCostMicroUsd, requireGpu };
        const { testId } = await cli.client.call('testProvider', { body });
        return followTest(cli, testId, options);
      }),
    );
  group
    .command('list')
    .description('tests of providers and of workspaces, newest first')
    .addOption(limitOption())
    .action((options: { limit: number }) => host.run((cli) => listTests(cli, options)));
  group
    .command('report')
    .description('the report of a test, the latest by default')
    .addArgument(new Argument('[test]', 'id or its beginning'))
    .addOption(formatOption())
    .addOption(outOption())
    .action((which: string | undefined, options: SaveOptions) =>
      host.run((cli) => showTest(cli, { which, ...options })),
    );
  group
    .command('cancel')
    .description('end a test before its time; what it rented is destroyed')
    .addArgument(new Argument('<test>', 'id or its beginning'))
    .action((which: string) =>
      host.run(async (cli) => {
        const testId = await resolveTestId(cli, which);
        const answer = await cli.client.call('cancelTest', { params: { testId } });
        if (cli.json) cli.printJson(answer);
        else if (answer.cancelled)
          cli.print(`Cancelled: what it rented is being destroyed. dumont test report ${testId}`);
        else cli.print('There is nothing to cancel: it is over, or destroying what it rented.');
      }),
    );
  return group;
}

function dollars(text: string): number {
  const value = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && value > 0 && value <= 1_000) return value;
  throw new InvalidArgumentError('It must be an amount of dollars, such as 0.10.');
}
