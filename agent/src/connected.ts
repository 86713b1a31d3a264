import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';
import { forgetSecretVariables } from './host/secret-variables.ts';
import { storeEngine } from './lease/store-engine.ts';
import { AGENT_VERSION } from './version.ts';

/** Connects to the control plane that the environment names, and serves it until stopped. @throws {DumontError} USAGE */
export async function runConnected(signal: AbortSignal): Promise<void> {
  const config = readAgentConfig(process.env);
  // No child gets them by mistake; the kernel's copy of what the process was started with stays (docs/SECURITY.md).
  forgetSecretVariables(process.env);
  const log = createLogger('agent', config.logLevel).child({ instanceId: config.instanceId });
  const parts = { config, clock: systemClock, random: systemRandom };
  await runAgent({ ...parts, log, openEngine: storeEngine({ ...parts, toolVersion: AGENT_VERSION }) }, signal);
}
