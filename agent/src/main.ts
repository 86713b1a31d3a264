#!/usr/bin/env node
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { describeStandaloneCommands, runStandalone, STANDALONE_COMMANDS } from './commands/run.ts';
import { agentEnvironmentTable, readAgentConfig } from './config.ts';
import { storeEngine } from './lease/store-engine.ts';
import { AGENT_VERSION } from './version.ts';

await runMain((signal) => main(process.argv.slice(2), signal));

async function main(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const [command = 'run', ...rest] = argv;
  if (command === '--version') {
    process.stdout.write(`dumont-agent ${AGENT_VERSION}\n`);
    return 0;
  }
  if (command === '--help' || command === '-h' || (command === 'run' && rest.includes('--help'))) {
    process.stdout.write(helpText());
    return 0;
  }
  if (STANDALONE_COMMANDS.has(command)) {
    const { stdout, stderr } = process;
    return runStandalone(argv, { stdout, stderr, isTty: stderr.isTTY }, signal);
  }
  if (command !== 'run' || rest.length > 0) {
    throw new DumontError('USAGE', `unknown argument ${rest[0] ?? command}`, { hint: 'See dumont-agent --help.' });
  }
  await runConnected(signal);
  return 0;
}

async function runConnected(signal: AbortSignal): Promise<void> {
  const config = readAgentConfig(process.env);
  const log = createLogger('agent', config.logLevel).child({ instanceId: config.instanceId });
  const parts = { config, clock: systemClock, random: systemRandom };
  await runAgent({ ...parts, log, openEngine: storeEngine({ ...parts, toolVersion: AGENT_VERSION }) }, signal);
}

function helpText(): string {
  return `dumont-agent: keeps a workspace alive on a spot machine

usage:
  dumont-agent [run]              connect to the control plane and serve it until stopped
  dumont-agent <command> …        work without a control plane; <command> --help tells its options
  dumont-agent --version

commands:
${describeStandaloneCommands()}

environment of run:
${agentEnvironmentTable()}
`;
}
