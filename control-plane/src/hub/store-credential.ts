import type { Logger } from '@dumont/shared/node/logger.ts';
import type { CredentialConfirm, CredentialPropose } from '@dumont/shared/protocol/credential.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { AgentDirectory } from './agent-directory.ts';
import type { AgentSession } from './agent-session.ts';
import type { HubLimits } from './hub-limits.ts';

/**
 * One step of an agent's change of credential. When it cannot be stored nothing is answered and the session ends: the
 * agent says it again on its next one. Never rejects.
 */
export async function storeCredential(
  parts: { readonly directory: AgentDirectory; readonly log: Logger; readonly limits: HubLimits },
  session: AgentSession,
  message: CredentialPropose | CredentialConfirm,
): Promise<void> {
  const { directory, log, limits } = parts;
  const { kind, credential } = message;
  const instanceId = must(session.instanceId, 'a live session knows its instance');
  if (session.credentialsInFlight >= limits.maxCredentialsPerSession) {
    session.refuse({ code: 'LIMIT', message: `too many ${kind} messages wait` }, CLOSE_CODES.protocol);
    return;
  }
  session.credentialsInFlight += 1;
  try {
    if (kind === 'credential-propose') {
      await directory.proposeCredential(instanceId, credential);
      session.send({ kind: 'credential-accepted' });
    } else {
      await directory.confirmCredential(instanceId, credential);
    }
  } catch (error) {
    log.error({ event: 'credential-failed', instanceId, kind, err: error }, 'credential not stored');
    session.end(CLOSE_CODES.goingAway, 'the control plane could not store the credential; say it again');
  } finally {
    session.credentialsInFlight -= 1;
  }
}
