import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';
import { storeEngine } from './lease/store-engine.ts';
import { controlSigner } from './storage/control-signer.ts';
import { AGENT_VERSION } from './version.ts';

/** Connects to the control plane that the environment names, and serves it until stopped. @throws {DumontError} USAGE */
export async function runConnected(signal: AbortSignal): Promise<void> {
  const config = readAgentConfig(process.env);
  const log = createLogger('agent', config.logLevel).child({ instanceId: config.instanceId });
  const parts = { config, clock: systemClock, random: systemRandom };
  const authorization = () => `Bearer ${config.instanceId}.${config.secrets.token}`;
  const sign = controlSigner({ controlUrl: config.controlUrl, authorization });
  await runAgent({ ...parts, log, openEngine: storeEngine({ ...parts, sign, toolVersion: AGENT_VERSION }) }, signal);
}
