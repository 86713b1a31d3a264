import { DumontError } from '@dumont/shared/util/errors.ts';
import type { BranchRow } from '../store/branches.ts';
import { findBranch } from '../store/branches.ts';
import type { Queryable } from '../store/database.ts';
import type { InstanceRow } from '../store/instances.ts';
import { findInstance } from '../store/instances.ts';
import type { OperationRow } from '../store/operations.ts';
import { findOperation } from '../store/operations.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { findWorkspace } from '../store/workspaces.ts';

/** Rows a caller named, or NOT_FOUND in words that say how to find the right name. */

/** By id or name. */
export async function requireWorkspace(db: Queryable, idOrName: string): Promise<WorkspaceRow> {
  const row = await findWorkspace(db, idOrName);
  return row ?? missing('workspace', idOrName, 'GET /api/v1/workspaces lists them.');
}

export async function requireInstance(db: Queryable, instanceId: string): Promise<InstanceRow> {
  const row = await findInstance(db, instanceId);
  return row ?? missing('instance', instanceId, 'GET /api/v1/instances?all=true lists them.');
}

export async function requireBranch(db: Queryable, branchId: string): Promise<BranchRow> {
  const row = await findBranch(db, branchId);
  return row ?? missing('branch', branchId, 'GET /api/v1/branches?all=true lists them.');
}

/** @param kind only an operation of this kind, as in `/failovers/:failoverId` */
export async function requireOperation(db: Queryable, operationId: string, kind?: 'failover'): Promise<OperationRow> {
  const row = await findOperation(db, operationId);
  if (row !== undefined && (kind === undefined || row.kind === kind)) return row;
  const list = kind === undefined ? '/api/v1/operations' : '/api/v1/failovers';
  return missing(kind ?? 'operation', operationId, `GET ${list} lists them.`);
}

function missing(noun: string, name: string, hint: string): never {
  throw new DumontError('NOT_FOUND', `there is no ${noun} "${name}"`, { hint, field: noun });
}
