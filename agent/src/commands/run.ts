import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { helpText, parseArguments } from './arguments.ts';
import { EXIT, type Command, type CommandIo } from './command.ts';
import { fsckCommand } from './fsck-command.ts';
import { lsCommand, snapshotsCommand, verifyCommand } from './inspect-commands.ts';
import { ProgressBar } from './progress-bar.ts';
import { pruneCommand } from './prune-command.ts';
import { restoreCommand } from './restore-command.ts';
import { snapshotCommand } from './snapshot-command.ts';

const COMMANDS: ReadonlyMap<string, Command> = new Map(
  [snapshotCommand, snapshotsCommand, restoreCommand, verifyCommand, lsCommand, pruneCommand, fsckCommand].map(
    (command) => [command.spec.name, command],
  ),
);

/** First words of a command line that need no control plane. */
export const STANDALONE_COMMANDS: ReadonlySet<string> = new Set(COMMANDS.keys());

/** One line per standalone command, for a program's general help text. */
export function describeStandaloneCommands(): string {
  return [...COMMANDS.values()].map(({ spec }) => `  ${spec.name.padEnd(12)} ${spec.summary}`).join('\n');
}

/**
 * Runs one standalone command to its end.
 * @param argv the words after the program's name; the first is one of {@link STANDALONE_COMMANDS}
 * @returns the exit code: 0 done, 1 failed, 2 usage, 3 done but some files are torn or left out (they are listed).
 * Failures are printed, on stderr for people, as `{ error }` on stdout with `--json`; it throws only on a bug
 */
export async function runStandalone(argv: readonly string[], io: CommandIo, signal: AbortSignal): Promise<number> {
  const [name = '', ...rest] = argv;
  const wantsJson = rest.includes('--json');
  const progress = new ProgressBar(io, systemClock);
  try {
    const command = COMMANDS.get(name);
    if (command === undefined) {
      throw new DumontError('USAGE', `there is no command ${JSON.stringify(name)}`, {
        hint: `Commands: ${[...STANDALONE_COMMANDS].join(', ')}`,
      });
    }
    if (rest.includes('--help')) {
      io.stdout.write(helpText(command.spec));
      return EXIT.done;
    }
    const args = parseArguments(command.spec, rest);
    const result = await command.run(args, { clock: systemClock, progress, signal });
    progress.clear();
    io.stdout.write(`${wantsJson ? JSON.stringify(result.json) : result.text}\n`);
    return result.exitCode;
  } catch (error) {
    progress.clear();
    return reportFailure(toDumontError(error), wantsJson, io);
  }
}

function reportFailure(failure: DumontError, wantsJson: boolean, io: CommandIo): number {
  const { code, message, hint, field } = failure;
  const hintLine = hint === undefined ? '' : `${hint}\n`;
  if (wantsJson) io.stdout.write(`${JSON.stringify({ error: { code, message, hint, field } })}\n`);
  else io.stderr.write(`error: ${message}\n${hintLine}`);
  return code === 'USAGE' ? EXIT.usage : EXIT.failed;
}
