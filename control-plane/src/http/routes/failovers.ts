import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import type { OperationRow } from '../../store/operations.ts';
import { listOperations } from '../../store/operations.ts';
import { readPage } from '../cursor.ts';
import { requireOperation, requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { readOperationView } from './operations.ts';

export function failoverHandlers(
  services: ApiServices,
): Pick<Handlers, 'triggerFailover' | 'listFailovers' | 'getFailover' | 'getFailoverReport'> {
  const { db, operations } = services;
  return {
    triggerFailover: async ({ body }) => {
      const workspace = await requireWorkspace(db, body.workspace);
      return { failoverId: await operations.failover(workspace.id, body.reason), workspaceId: workspace.id };
    },
    listFailovers: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'failovers',
        keyOf: (row: OperationRow) => row.id,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) =>
          listOperations(db, {
            kind: 'failover',
            workspaceId: workspace?.id,
            state: query.state,
            before: key,
            limit,
          }),
      });
      // One after the other: a report takes several queries, and a page of them must not flood the database.
      const reports: FailoverReport[] = [];
      for (const row of items) reports.push(await services.failoverReport(row.id));
      return { items: reports, next };
    },
    getFailover: async ({ params }) => readOperationView(db, await requireOperation(db, params.failoverId, 'failover')),
    getFailoverReport: async ({ params }) => {
      const row = await requireOperation(db, params.failoverId, 'failover');
      return services.failoverReport(row.id);
    },
  };
}
