import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { helpText, parseArguments } from './arguments.ts';
import { EXIT, type Command, type CommandIo } from './command.ts';
import { ProgressBar } from './progress-bar.ts';

/** Loaded on demand: a command starts in half the time when it brings only what it needs. */
const COMMANDS: ReadonlyMap<string, () => Promise<Command>> = new Map([
  ['snapshot', async () => (await import('./snapshot-command.ts')).snapshotCommand],
  ['snapshots', async () => (await import('./inspect-commands.ts')).snapshotsCommand],
  ['restore', async () => (await import('./restore-command.ts')).restoreCommand],
  ['mirror', async () => (await import('./mirror-command.ts')).mirrorCommand],
  ['verify', async () => (await import('./inspect-commands.ts')).verifyCommand],
  ['ls', async () => (await import('./inspect-commands.ts')).lsCommand],
  ['diff', async () => (await import('./diff-command.ts')).diffCommand],
  ['prune', async () => (await import('./prune-command.ts')).pruneCommand],
  ['fsck', async () => (await import('./fsck-command.ts')).fsckCommand],
  ['key', async () => (await import('./key-command.ts')).keyCommand],
  ['host-files', async () => (await import('./host-files-command.ts')).hostFilesCommand],
  ['enrol', async () => (await import('./enrol-command.ts')).enrolCommand],
  ['probe', async () => (await import('./probe-command.ts')).probeCommand],
  ['doctor', async () => (await import('./doctor-command.ts')).doctorCommand],
]);

/** First words of a command line that do one thing and end; all but `enrol` need no control plane. */
export const STANDALONE_COMMANDS: ReadonlySet<string> = new Set(COMMANDS.keys());

/** One line per standalone command, for a program's general help text. */
export async function describeStandaloneCommands(): Promise<string> {
  const commands = await Promise.all([...COMMANDS.values()].map((load) => load()));
  return commands.map(({ spec }) => `  ${spec.name.padEnd(12)} ${spec.summary}`).join('\n');
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
    const command = await COMMANDS.get(name)?.();
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
    const print = (line: string) => {
      progress.clear();
      io.stdout.write(`${line}\n`);
    };
    const result = await command.run(args, { clock: systemClock, progress, signal, print });
    print(wantsJson ? JSON.stringify(result.json) : result.text);
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
