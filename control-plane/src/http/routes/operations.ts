import type { OperationView } from '@dumont/shared/api/views.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import type { Queryable } from '../../store/database.ts';
import type { OperationRow } from '../../store/operations.ts';
import { listOperations } from '../../store/operations.ts';
import { listSteps } from '../../store/steps.ts';
import { readPage } from '../cursor.ts';
import { requireOperation, requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { operationSummary } from '../views.ts';

export function operationHandlers(services: ApiServices): Pick<Handlers, 'listOperations' | 'getOperation'> {
  const { db } = services;
  return {
    listOperations: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'operations',
        keyOf: (row: OperationRow) => row.id,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) =>
          listOperations(db, { kind: query.kind, workspaceId: workspace?.id, before: key, limit }),
      });
      return { items: items.map(operationSummary), next };
    },
    getOperation: async ({ params }) => readOperationView(db, await requireOperation(db, params.operationId)),
  };
}

/** An operation with its steps. */
export async function readOperationView(db: Queryable, row: OperationRow): Promise<OperationView> {
  return { ...operationSummary(row), steps: [...(await listSteps(db, row.id))] };
}
