import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { GrantPlan } from '../../storage/choose-issuer.ts';
import { RequestSigner } from '../../storage/request-signer.ts';
import type { Queryable } from '../../store/database.ts';
import { findInstance } from '../../store/instances.ts';
import { currentStanding } from '../../workspaces/assignments.ts';
import { rankCredential } from '../../workspaces/credentials.ts';
import type { ApiServices } from '../services.ts';

/**
 * Signs requests for the agents that prove who they are and are not fenced; for nobody where machines have other grants.
 */
export function storageSigner(parts: {
  readonly db: Queryable;
  readonly clock: Clock;
  readonly storage: DirectGrant;
  readonly plan: GrantPlan;
}): ApiServices['signRequests'] {
  const { db, clock, storage, plan } = parts;
  const signer = storage.kind === 's3' && plan.way === 'presigned' ? new RequestSigner(storage, clock) : null;
  return async (authorization, requests) => {
    const instanceId = await authenticateAgent(db, authorization);
    if (signer === null) {
      throw new DumontError('UNSUPPORTED', 'this control plane does not sign requests', {
        hint: 'Its machines get grants of another kind; see STORAGE_GRANTS.',
      });
    }
    const now = await currentStanding(db, instanceId);
    if (now?.mayUseStore !== true) {
      throw new DumontError('UNAUTHORIZED', `instance ${instanceId} may not use the store: it is fenced`);
    }
    return signer.sign({ workspaceId: now.workspace.id }, requests);
  };
}

/**
 * Whose `Bearer <instanceId>.<credential>` it is.
 * @throws {DumontError} UNAUTHORIZED, the same for an unknown instance and a wrong credential
 */
async function authenticateAgent(db: Queryable, authorization: string | undefined): Promise<InstanceId> {
  const [, id = '', credential = ''] = /^Bearer +(in_[0-9a-z]{20})\.(\S{16,256}) *$/i.exec(authorization ?? '') ?? [];
  const instance = id === '' ? undefined : await findInstance(db, id);
  const rank = instance === undefined ? 'none' : rankCredential(credential, instance);
  if (instance !== undefined && (rank === 'present' || rank === 'next')) return instance.id;
  throw new DumontError('UNAUTHORIZED', 'this needs the credential of an agent', {
    field: 'Authorization',
    hint: 'Send "Authorization: Bearer <instanceId>.<credential>".',
  });
}
