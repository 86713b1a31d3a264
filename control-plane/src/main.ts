#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeEnvironment } from '@dumont/shared/node/config.ts';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { controlEnvironmentSchema, readControlConfig } from './config.ts';
import { startControlPlane } from './context.ts';
import { connectionFilePath, removeConnectionFile, writeConnectionFile } from './node/connection-file.ts';
import { VERSION } from './version.ts';

/** The agent of this checkout, run by the Node that runs us. */
const AGENT_COMMAND = [process.execPath, fileURLToPath(new URL('../../agent/src/main.ts', import.meta.url)), 'run'];

await runMain(async (signal) => {
  const flags = readFlags(process.argv.slice(2));
  if (flags.version === true || flags.help === true) {
    process.stdout.write(flags.help === true ? helpText() : `${VERSION}\n`);
    return;
  }
  await serve(signal);
});

async function serve(signal: AbortSignal): Promise<void> {
  const { config, secrets } = readControlConfig(process.env);
  const log = createLogger('control-plane', config.logLevel);
  await using controlPlane = await startControlPlane({ config, secrets, log, agentCommand: AGENT_COMMAND });
  const { url, apiToken: token, database } = controlPlane;
  const connectionFile = connectionFilePath(process.env);
  await writeConnectionFile(connectionFile, { url, token });
  log.info({ event: 'control-plane.ready', url, database, storage: config.storageName }, 'control plane ready');
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  log.info({ event: 'control-plane.stopping' }, 'control plane stopping');
  await removeConnectionFile(connectionFile, { url, token });
}

function readFlags(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      strict: true,
      options: { help: { type: 'boolean', short: 'h' }, version: { type: 'boolean' } },
    }).values;
  } catch (error) {
    throw new DumontError('USAGE', toDumontError(error).message, {
      hint: 'The control plane is configured by environment variables: see --help.',
      cause: error,
    });
  }
}

function helpText(): string {
  const rows = describeEnvironment(controlEnvironmentSchema).map(({ name, defaultText, description }) => {
    const fallback = defaultText === '' ? '' : ` [${defaultText}]`;
    return `  ${name}${fallback}\n      ${description}`;
  });
  return `Usage: npm run serve

Runs the control plane until it is stopped with Ctrl-C. Machines and their workloads live on without it.

Environment:
${rows.join('\n')}
`;
}
