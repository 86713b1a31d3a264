import { createLogger, type Logger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig, type AgentConfig } from './config.ts';
import { EXIT_CODES } from './host/exit-codes.ts';
import { forgetSecretVariables } from './host/secret-variables.ts';
import { CredentialFile, credentialPath } from './identity/credential-file.ts';
import { join, type JoinParts, type Membership } from './identity/join.ts';
import type { OpenEngine } from './lease/engine.ts';
import { UploadShare } from './storage/upload-share.ts';
import { controlSigner } from './storage/control-signer.ts';
import { AGENT_VERSION } from './version.ts';

const PARTS = { clock: systemClock, random: systemRandom };

/**
 * Connects to the control plane that the environment names, joining it first where that has not been done, and serves
 * it until stopped. SIGHUP asks it to make way for another process of this agent. Returns at once on a machine that was
 * given back.
 * @returns the exit code
 * @throws {DumontError} as {@link join} and {@link runAgent}
 */
export async function runConnected(stop: AbortSignal): Promise<number> {
  const hangUp = new AbortController();
  const onHangUp = () => hangUp.abort();
  // Until the process is gone: a second one, while the first is being obeyed, must not kill it.
  process.on('SIGHUP', onHangUp);
  const config = readAgentConfig(process.env);
  // No child gets them by mistake; the kernel's copy of what the process was started with stays (docs/SECURITY.md).
  forgetSecretVariables(process.env);
  const log = createLogger('agent', config.logLevel);
  const credentials = await CredentialFile.open(credentialPath(config.stateDir));
  const membership = await joinOf({ config, credentials, log }, stop);
  if (membership === null) return EXIT_CODES.done;
  const { identity } = membership;
  const own = log.child({ instanceId: identity.instanceId });
  tellOf(membership, { config, credentials, log: own });
  if (membership.kind === 'released') return EXIT_CODES.done;
  const authorization = () => {
    const { credential } = must(credentials.record, 'an agent runs after it has joined');
    return `Bearer ${identity.instanceId}.${credential}`;
  };
  const uploads = uploadsOf(config);
  const sign = controlSigner({ controlUrl: config.controlUrl, authorization });
  // Native modules, WebAssembly and the stores take longer to load than to say hello: first the heartbeat, then they.
  const openEngine: OpenEngine = async (assignment) => {
    const { storeEngine } = await import('./lease/store-engine.ts');
    return storeEngine({ ...PARTS, config, identity, sign, uploads, toolVersion: AGENT_VERSION })(assignment);
  };
  const parts = { ...PARTS, config, identity, credentials, openEngine, uploads, log: own };
  const end = await runAgent(parts, { stop, restart: hangUp.signal });
  return end === 'restart' ? EXIT_CODES.restart : EXIT_CODES.done;
}

function uploadsOf({ maxUploadBytesPerSecond: bytesPerSecond }: AgentConfig): UploadShare | undefined {
  return bytesPerSecond === null ? undefined : new UploadShare({ bytesPerSecond, clock: systemClock });
}

interface JoinContext {
  readonly config: AgentConfig;
  readonly credentials: CredentialFile;
  readonly log: Logger;
}

/** Null when it was stopped before it joined. */
async function joinOf({ config, credentials, log }: JoinContext, stop: AbortSignal): Promise<Membership | null> {
  const onRetry: JoinParts['onRetry'] = ({ code, message }, retryInMs) => {
    log.warn({ event: 'enrol-failed', code, reason: message, retryInMs }, 'could not join yet, will try again');
  };
  try {
    const parts = { ...PARTS, ...config, file: credentials, enrolToken: config.secrets.enrolToken, onRetry };
    // A machine has nothing else to do than to wait for its control plane.
    return await join(parts, { patienceMs: null, signal: stop });
  } catch (error) {
    if (stop.aborted && isDumontError(error, 'ABORTED')) return null;
    throw error;
  }
}

function tellOf(membership: Membership, { config, credentials, log }: JoinContext): void {
  if (membership.kind === 'released') {
    log.info({ event: 'released-before' }, 'this machine was given back: there is nothing to do');
    return;
  }
  if (membership.kind === 'joined') {
    log.info({ event: 'joined', controlUrl: config.controlUrl }, 'this machine joined its control plane');
  }
  if (membership.isOtherToken) {
    log.warn({ event: 'token-ignored', file: credentials.path }, 'the enrolment token is not used: joined already');
  }
}
