import { createHmac } from 'node:crypto';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Standing } from '@dumont/shared/model/instance.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import { STANDBY_SYNC_PORT } from '@dumont/shared/protocol/sync.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';

/** Where a standby is reached from outside. */
interface SyncAddress {
  readonly host: string;
  readonly port: number;
}

/** What the assignments of a workspace with a standby need besides the database. */
export interface StandbySync {
  /** Of this installation: tokens derive from it, so that none has to be stored. */
  readonly secret: string;
  /** Where a standby's {@link STANDBY_SYNC_PORT} is reached; null while its provider does not say. Must not reject. */
  locate(instanceId: InstanceId): Promise<SyncAddress | null>;
}

/** The secret of one pair: of one workspace, epoch and standby. Pure. */
function syncTokenOf(
  secret: string,
  pair: { readonly workspaceId: string; readonly epoch: number; readonly standbyId: string },
): string {
  const { workspaceId, epoch, standbyId } = pair;
  return createHmac('sha256', secret).update(`sync ${workspaceId} ${epoch} ${standbyId}`).digest('base64url');
}

/** The secret of one move: of one workspace, operation and standby. Pure. */
function chunkTokenOf(
  secret: string,
  move: { readonly workspaceId: string; readonly operationId: string; readonly holderId: string },
): string {
  const { workspaceId, operationId, holderId } = move;
  return createHmac('sha256', secret).update(`chunks ${workspaceId} ${operationId} ${holderId}`).digest('base64url');
}

/**
 * An instance's part in serving chunks while its workspace is moved: the holder serves them, a replacement fetches them
 * from where the holder is reached. Undefined for everybody else, and while that is not known. Pure.
 */
export function chunkPartOf(
  secret: string,
  facts: {
    readonly workspaceId: string;
    /** The unfinished operation that moves the workspace. */
    readonly movedBy: string | null;
    /** The standby, whether it follows a primary or became primary itself. */
    readonly holderId: InstanceId | null;
    readonly instanceId: InstanceId;
    readonly standing: Standing;
    readonly address: SyncAddress | null;
  },
): Assignment['chunks'] {
  const { workspaceId, movedBy, holderId, instanceId, standing, address } = facts;
  if (movedBy === null || holderId === null) return undefined;
  const token = chunkTokenOf(secret, { workspaceId, operationId: movedBy, holderId });
  if (instanceId === holderId) return { role: 'serve', host: '0.0.0.0', port: STANDBY_SYNC_PORT, token };
  if (standing !== 'replacement' || address === null) return undefined;
  return { role: 'fetch', url: urlOf(address), token };
}

/**
 * An instance's part in continuous sync; undefined while it has none: nobody is primary, there is no standby, or its
 * address is not known. Pure.
 */
export function syncPartOf(
  secret: string,
  facts: {
    readonly workspace: Pick<WorkspaceRow, 'id' | 'epoch' | 'primaryInstanceId' | 'standbyInstanceId'>;
    readonly instanceId: InstanceId;
    readonly standing: Standing;
    readonly address: SyncAddress | null;
  },
): Assignment['sync'] {
  const { workspace, instanceId, standing, address } = facts;
  const { id: workspaceId, epoch, primaryInstanceId, standbyInstanceId: standbyId } = workspace;
  if (standbyId === null || primaryInstanceId === null) return undefined;
  const token = syncTokenOf(secret, { workspaceId, epoch, standbyId });
  if (standing === 'standby' && instanceId === standbyId) {
    return { role: 'receive', host: '0.0.0.0', port: STANDBY_SYNC_PORT, token, epoch };
  }
  if (standing !== 'primary' || address === null) return undefined;
  return { role: 'send', url: urlOf(address), token, epoch };
}

function urlOf({ host, port }: SyncAddress): string {
  return `wss://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
