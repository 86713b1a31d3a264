import { createLogger, type Logger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';
import { CredentialFile, credentialPath } from './identity/credential-file.ts';
import { join, type JoinParts } from './identity/join.ts';
import { storeEngine } from './lease/store-engine.ts';
import { AGENT_VERSION } from './version.ts';

/**
 * Connects to the control plane that the environment names, joining it first where that has not been done, and serves
 * it until stopped. Returns at once on a machine that was given back.
 * @throws {DumontError} as {@link join} and {@link runAgent}
 */
export async function runConnected(signal: AbortSignal): Promise<void> {
  const config = readAgentConfig(process.env);
  const log = createLogger('agent', config.logLevel);
  const parts = { config, clock: systemClock, random: systemRandom };
  const credentials = await CredentialFile.open(credentialPath(config.stateDir));
  const membership = await join(
    { ...parts, ...config, file: credentials, enrolToken: config.secrets.enrolToken, onRetry: logRetry(log) },
    // A machine has nothing else to do than to wait for its control plane.
    { patienceMs: null, signal },
  ).catch((error: unknown) => {
    if (signal.aborted && isDumontError(error, 'ABORTED')) return null;
    throw error;
  });
  if (membership === null) return;
  const { identity } = membership;
  const own = log.child({ instanceId: identity.instanceId });
  if (membership.kind === 'released') {
    own.info({ event: 'released-before' }, 'this machine was given back: there is nothing to do');
    return;
  }
  if (membership.kind === 'joined')
    own.info({ event: 'joined', controlUrl: config.controlUrl }, 'this machine joined its control plane');
  if (membership.isOtherToken) {
    own.warn({ event: 'token-ignored', file: credentials.path }, 'the enrolment token is not used: joined already');
  }
  const openEngine = storeEngine({ ...parts, identity, toolVersion: AGENT_VERSION });
  await runAgent({ ...parts, identity, credentials, log: own, openEngine }, signal);
}

function logRetry(log: Logger): JoinParts['onRetry'] {
  return ({ code, message }, retryInMs) => {
    log.warn({ event: 'enrol-failed', code, reason: message, retryInMs }, 'could not join yet, will try again');
  };
}
