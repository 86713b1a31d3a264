import type { TestReport } from '@dumont/shared/api/test-report.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import type { OperationRow } from '../../store/operations.ts';
import { listTests } from '../../store/tests.ts';
import { readPage } from '../cursor.ts';
import { requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';

export function testHandlers(
  services: ApiServices,
): Pick<Handlers, 'simulateFailover' | 'testFailover' | 'testProvider' | 'listTests' | 'getTest' | 'cancelTest'> {
  const { db, tests } = services;
  return {
    simulateFailover: async ({ body, signal }) => {
      const workspace = await requireWorkspace(db, body.workspace);
      return tests.simulate(workspace.id, { signal });
    },
    testFailover: async ({ body }) => {
      const workspace = await requireWorkspace(db, body.workspace);
      return { testId: await tests.failover(workspace, body), workspaceId: workspace.id };
    },
    testProvider: async ({ body }) => ({ testId: await tests.provider(body), workspaceId: null }),
    listTests: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'tests',
        keyOf: (row: OperationRow) => row.id,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) => listTests(db, { kind: query.kind, workspaceId: workspace?.id, before: key, limit }),
      });
      // One after the other: a report takes several queries, and a page of them must not flood the database.
      const reports: TestReport[] = [];
      for (const row of items) reports.push(await tests.report(row.id));
      return { items: reports, next };
    },
    getTest: ({ params }) => tests.report(params.testId),
    cancelTest: async ({ params }) => {
      const { testId } = await tests.report(params.testId);
      return { testId, cancelled: await tests.cancel(testId) };
    },
  };
}
