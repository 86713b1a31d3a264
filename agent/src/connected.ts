import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';
import type { OpenEngine } from './lease/engine.ts';
import { AGENT_VERSION } from './version.ts';

/** Connects to the control plane that the environment names, and serves it until stopped. @throws {DumontError} USAGE */
export async function runConnected(signal: AbortSignal): Promise<void> {
  const config = readAgentConfig(process.env);
  const log = createLogger('agent', config.logLevel).child({ instanceId: config.instanceId });
  const parts = { config, clock: systemClock, random: systemRandom };
  // Native modules, WebAssembly and the stores take longer to load than to say hello: first the heartbeat, then they.
  const openEngine: OpenEngine = async (assignment) => {
    const { storeEngine } = await import('./lease/store-engine.ts');
    return storeEngine({ ...parts, toolVersion: AGENT_VERSION })(assignment);
  };
  await runAgent({ ...parts, log, openEngine }, signal);
}
