import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';
import { forgetSecretVariables } from './host/secret-variables.ts';
import { EXIT_CODES } from './host/exit-codes.ts';
import type { OpenEngine } from './lease/engine.ts';
import { controlSigner } from './storage/control-signer.ts';
import { AGENT_VERSION } from './version.ts';

/**
 * Connects to the control plane that the environment names, and serves it until stopped. SIGHUP asks it to make way for
 * another process of this agent.
 * @returns the exit code
 * @throws {DumontError} USAGE, and what {@link runAgent} throws
 */
export async function runConnected(stop: AbortSignal): Promise<number> {
  const hangUp = new AbortController();
  const onHangUp = () => hangUp.abort();
  // Until the process is gone: a second one, while the first is being obeyed, must not kill it.
  process.on('SIGHUP', onHangUp);
  const config = readAgentConfig(process.env);
  // No child gets them by mistake; the kernel's copy of what the process was started with stays (docs/SECURITY.md).
  forgetSecretVariables(process.env);
  const log = createLogger('agent', config.logLevel).child({ instanceId: config.instanceId });
  const parts = { config, clock: systemClock, random: systemRandom };
  const authorization = () => `Bearer ${config.instanceId}.${config.secrets.token}`;
  const sign = controlSigner({ controlUrl: config.controlUrl, authorization });
  // Native modules, WebAssembly and the stores take longer to load than to say hello: first the heartbeat, then they.
  const openEngine: OpenEngine = async (assignment) => {
    const { storeEngine } = await import('./lease/store-engine.ts');
    return storeEngine({ ...parts, sign, toolVersion: AGENT_VERSION })(assignment);
  };
  const end = await runAgent({ ...parts, log, openEngine }, { stop, restart: hangUp.signal });
  return end === 'restart' ? EXIT_CODES.restart : EXIT_CODES.done;
}
