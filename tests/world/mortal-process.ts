import { existsSync, writeSync } from 'node:fs';
import { readControlConfig } from '@dumont/control-plane/config.ts';
import { startControlPlane } from '@dumont/control-plane/context.ts';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import type { Death } from './control-plane-process.ts';
import { AGENT_MAIN } from './site.ts';

/** The control plane as it is, except that it dies where the test wants it to: at a line of its log. */
const death = JSON.parse(process.env['TEST_DEATH'] ?? 'null') as Death | null;
const armedPath = process.env['TEST_DEATH_ARMED'] ?? '';
/** A module that its agents load before anything else. */
const agentImport = process.env['TEST_AGENT_IMPORT'];

function watchForDeath(line: string): void {
  writeSync(2, line);
  if (death === null) return;
  const fields = JSON.parse(line) as Readonly<Record<string, unknown>>;
  if (!Object.entries(death.when).every(([name, value]) => fields[name] === value)) return;
  if (!existsSync(armedPath)) return;
  if (death.afterMs === 0) process.kill(process.pid, 'SIGKILL');
  else systemClock.after(death.afterMs, () => process.kill(process.pid, 'SIGKILL'));
}

await runMain(async (signal) => {
  const { config, secrets } = readControlConfig(process.env);
  const log = createLogger('control-plane', config.logLevel, { write: watchForDeath });
  const imports = agentImport === undefined ? [] : ['--import', agentImport];
  const agentCommand = [process.execPath, ...imports, AGENT_MAIN, 'run'];
  await using _controlPlane = await startControlPlane({ config, secrets, log, agentCommand });
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
});
