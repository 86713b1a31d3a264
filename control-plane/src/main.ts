#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeEnvironment } from '@dumont/shared/node/config.ts';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { controlEnvironmentSchema, readControlConfig } from './config.ts';
import { startControlPlane } from './context.ts';
import { removeConnectionFile, writeConnectionFile } from './node/connection-file.ts';
import { VERSION } from './version.ts';

await runMain(async (signal) => {
  const flags = readFlags(process.argv.slice(2));
  if (flags.version === true) return write(`${VERSION}\n`);
  if (flags.help === true) return write(helpText());
  const { config, secrets } = readControlConfig(process.env);
  const log = createLogger('control-plane', config.logLevel);
  await using controlPlane = await startControlPlane({ config, secrets, log, agentCommand: AGENT_COMMAND });
  const { url, apiToken, database } = controlPlane;
  const connectionFile = await writeConnectionFile({ url, token: apiToken });
  log.info({ event: 'control-plane.ready', url, database, storage: config.storageName }, 'control plane ready');
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  log.info({ event: 'control-plane.stopping' }, 'control plane stopping');
  await removeConnectionFile(connectionFile, { url });
  return 0;
});

/** The agent of this checkout, run by the Node that runs us. */
const AGENT_COMMAND = [process.execPath, fileURLToPath(new URL('../../agent/src/main.ts', import.meta.url)), 'run'];
