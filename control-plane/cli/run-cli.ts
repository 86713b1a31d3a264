import { Command, CommanderError } from 'commander';
import { createApiClient } from '@dumont/shared/api/client.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import manifest from '../package.json' with { type: 'json' };
import type { Cli, CliIo, CommandHost } from './cli.ts';
import { agentsCommand } from './commands/agents.ts';
import { branchesCommand } from './commands/branches.ts';
import { detectionCommand } from './commands/detection.ts';
import { eventsCommand } from './commands/events.ts';
import { failoverCommand } from './commands/failover.ts';
import { machinesCommand } from './commands/machines.ts';
import { operationsCommand } from './commands/operations.ts';
import { regionsCommand } from './commands/regions.ts';
import { snapshotsCommand } from './commands/snapshots.ts';
import { sshCommand } from './commands/ssh.ts';
import { testCommand } from './commands/test.ts';
import { workspacesCommand } from './commands/workspaces.ts';
import { resolveConnection } from './connection.ts';
import { expandKeyValues } from './key-value.ts';
import { createColors } from './output/colors.ts';

/** What a shell says of a program ended by Ctrl-C: 128 + SIGINT. */
const EXIT_INTERRUPTED = 130;
/** Output that is not a terminal has no edge to fit into. */
const UNLIMITED_WIDTH = 100_000;

/**
 * Runs one `dumont` command line.
 * @param argv without the program's own name
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted
 */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  const program = createProgram(io);
  let exitCode = 0;
  const host: CommandHost = {
    run: async (work) => {
      exitCode = (await work(await openCli(program, io))) ?? 0;
    },
  };
  for (const group of [
    machinesCommand,
    agentsCommand,
    workspacesCommand,
    sshCommand,
    snapshotsCommand,
    branchesCommand,
    failoverCommand,
    testCommand,
    detectionCommand,
    operationsCommand,
    eventsCommand,
    regionsCommand,
  ]) {
    program.addCommand(inheritSettings(group(host), program));
  }
  try {
    await program.parseAsync(expandKeyValues(argv, program), { from: 'user' });
    return exitCode;
  } catch (error) {
    return reportFailure(error, argv.includes('--json'), io);
  }
}

function createProgram(io: CliIo): Command {
  const colors = createColors(useColors(io.stdout.isTTY === true, io));
  return new Command('dumont')
    .description('Look after workspaces on spot GPU machines: machines, snapshots and failovers.')
    .version(manifest.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .option('--url <url>', 'where the control plane is (DUMONT_URL)')
    .option('--token <token>', 'API token; DUMONT_TOKEN does not show in the list of processes')
    .option('--json', 'print one JSON value and nothing else')
    .configureHelp({
      showGlobalOptions: true,
      helpWidth: Math.min(io.stdout.columns ?? 100, 100),
      styleTitle: (text) => colors.bold(text),
      styleCommandText: (text) => colors.cyan(text),
      styleSubcommandText: (text) => colors.cyan(text),
      styleOptionText: (text) => colors.green(text),
    })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // Errors are reported in one place, in text or JSON.
      outputError: () => {},
      getOutHasColors: () => colors.isColorSupported,
      getErrHasColors: () => colors.isColorSupported,
    })
    .exitOverride()
    .addHelpText(
      'after',
      '\nIds may be shortened to a unique beginning, and options written as key=value.\nThe connection comes from the options, the environment, or the file the control plane writes at start.',
    );
}

/** A group built on its own knows nothing of the program's settings. */
function inheritSettings(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent);
  for (const sub of command.commands) inheritSettings(sub, command);
  return command;
}

async function openCli(program: Command, io: CliIo): Promise<Cli> {
  const options = program.opts<{ url?: string; token?: string; json?: boolean }>();
  const isTty = io.stdout.isTTY === true;
  const json = options.json === true;
  const connection = await resolveConnection(options, io.environment);
  return {
    client: createApiClient({ baseUrl: connection.url, token: connection.token, signal: io.signal, clock: io.clock }),
    json,
    isLive: isTty && !json,
    colors: createColors(useColors(isTty, io) && !json),
    width: isTty ? Math.max(40, io.stdout.columns ?? 80) : UNLIMITED_WIDTH,
    clock: io.clock,
    signal: io.signal,
    write: (text) => void io.stdout.write(text),
    print: (text) => void io.stdout.write(`${text}\n`),
    printJson: (value) => void io.stdout.write(`${JSON.stringify(value)}\n`),
    note: (text) => {
      if (!json) io.stderr.write(`${text}\n`);
    },
  };
}

function useColors(isTty: boolean, io: CliIo): boolean {
  const { NO_COLOR: noColor, FORCE_COLOR: forceColor, TERM: term } = io.environment;
  if (noColor !== undefined && noColor !== '') return false;
  if (forceColor !== undefined && forceColor !== '' && forceColor !== '0') return true;
  return isTty && term !== 'dumb';
}

/** Says on stderr what went wrong, as text and hint or as a JSON problem, and chooses the exit code. */
function reportFailure(error: unknown, json: boolean, io: CliIo): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  if (io.signal.aborted && (isDumontError(error, 'ABORTED') || (error as Error)?.name === 'AbortError')) {
    return EXIT_INTERRUPTED;
  }
  // The parser has just shown which commands there are.
  if (error instanceof CommanderError && error.code === 'commander.help' && !json) return 2;
  const failure = error instanceof CommanderError ? usageError(error) : toDumontError(error);
  const { code, message, hint, field } = failure;
  if (json) {
    io.stderr.write(`${JSON.stringify({ code, detail: message, hint, field })}\n`);
  } else {
    const colors = createColors(useColors(io.stderr.isTTY === true, io));
    const hintLine = hint === undefined ? '' : `${colors.dim(hint)}\n`;
    io.stderr.write(`${colors.red('error:')} ${message}\n${hintLine}`);
  }
  return code === 'USAGE' ? 2 : 1;
}

/** The parser's complaint; its "(Did you mean …?)" becomes the hint. */
function usageError(error: CommanderError): DumontError {
  if (error.code === 'commander.help') return new DumontError('USAGE', 'a command is missing');
  const [message, suggestion] = error.message.replace(/^error: /, '').split('\n');
  const hint = suggestion === undefined ? 'See "dumont --help".' : suggestion.replace(/^\((.*)\)$/, '$1');
  return new DumontError('USAGE', message ?? 'wrong usage', { hint });
}
