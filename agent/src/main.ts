#!/usr/bin/env node
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { runMain, usualExitCode } from '@dumont/shared/node/lifecycle.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { cacheFolder } from './host/cache-folder.ts';
import { EXIT_CODES } from './host/exit-codes.ts';
import { isExecutable } from './node/assets.ts';
import { AGENT_VERSION } from './version.ts';

void runMain(
  (signal) => main(process.argv.slice(2), signal),
  (failure) => (failure.code === 'UNAUTHORIZED' && isRun() ? EXIT_CODES.refused : usualExitCode(failure)),
);

async function main(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const [command = 'run', ...rest] = argv;
  if (command === '--version') {
    process.stdout.write(`dumont-agent ${AGENT_VERSION}\n`);
    return 0;
  }
  if (command === '--help' || command === '-h' || (command === 'run' && rest.includes('--help'))) {
    process.stdout.write(await helpText());
    return 0;
  }
  // Compiling what is imported takes most of the time of a short command; an agent that stays leaves no files in a home.
  // Imports come after it, so that the cache serves them. Without a writable folder nothing is kept.
  // The executable is one script, which is loaded already.
  if (command !== 'run' && !isExecutable) enableCompileCache(join(cacheFolder(process.env), 'compile'));
  const { runStandalone, STANDALONE_COMMANDS } = await import('./commands/run.ts');
  if (STANDALONE_COMMANDS.has(command)) {
    const { stdout, stderr } = process;
    return runStandalone(argv, { stdout, stderr, isTty: stderr.isTTY }, signal);
  }
  if (command !== 'run' || rest.length > 0) {
    throw new DumontError('USAGE', `unknown argument ${rest[0] ?? command}`, { hint: 'See dumont-agent --help.' });
  }
  const { runConnected } = await import('./connected.ts');
  return runConnected(signal);
}

/** The exit codes of `run` speak to its supervisor; those of the other commands to people and scripts. */
function isRun(): boolean {
  return (process.argv[2] ?? 'run') === 'run';
}

async function helpText(): Promise<string> {
  const { agentEnvironmentTable } = await import('./config.ts');
  const { describeStandaloneCommands } = await import('./commands/run.ts');
  return `dumont-agent: keeps a workspace alive on a spot machine

usage:
  dumont-agent [run]              connect to the control plane and serve it until stopped
  dumont-agent <command> …        do one thing and end; all but enrol work without a control plane;
                                  <command> --help tells its options
  dumont-agent --version

commands:
${await describeStandaloneCommands()}

environment of run:
${agentEnvironmentTable()}
`;
}
