#!/usr/bin/env node
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { cacheFolder } from './host/cache-folder.ts';
import { AGENT_VERSION } from './version.ts';

await runMain((signal) => main(process.argv.slice(2), signal));

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
  if (command !== 'run') enableCompileCache(join(cacheFolder(process.env), 'compile'));
  const { runStandalone, STANDALONE_COMMANDS } = await import('./commands/run.ts');
  if (STANDALONE_COMMANDS.has(command)) {
    const { stdout, stderr } = process;
    return runStandalone(argv, { stdout, stderr, isTty: stderr.isTTY }, signal);
  }
  if (command !== 'run' || rest.length > 0) {
    throw new DumontError('USAGE', `unknown argument ${rest[0] ?? command}`, { hint: 'See dumont-agent --help.' });
  }
  const { runConnected } = await import('./connected.ts');
  await runConnected(signal);
  return 0;
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
