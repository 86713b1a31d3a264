import type { InstanceView } from '@dumont/shared/api/views.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { InstanceRow } from '../../store/instances.ts';
import { listInstances } from '../../store/instances.ts';
import { moversOf, rentalsOf } from '../../store/lookups.ts';
import { testsUnderWay } from '../../store/tests.ts';
import type { WorkspaceRow } from '../../store/workspaces.ts';
import { readPage } from '../cursor.ts';
import { requireInstance, requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { instanceView } from '../views.ts';

export function instanceHandlers(
  services: ApiServices,
): Pick<Handlers, 'listInstances' | 'getInstance' | 'destroyInstance' | 'injectLoss'> {
  const { db, clock, fleet, operations } = services;

  async function view(rows: readonly InstanceRow[]): Promise<InstanceView[]> {
    const workspaces = new Map<WorkspaceId, WorkspaceRow>();
    for (const id of new Set(rows.map((row) => row.workspaceId))) {
      workspaces.set(id, await requireWorkspace(db, id));
    }
    const [tests, movers, rentals] = await Promise.all([
      testsUnderWay(
        db,
        rows.flatMap(({ operationId }) => operationId ?? []),
      ),
      moversOf(db, [...workspaces.keys()]),
      rentalsOf(
        db,
        rows.map((row) => row.id),
      ),
    ]);
    return rows.map((row) =>
      instanceView(row, {
        workspace: must(workspaces.get(row.workspaceId), 'an instance has a workspace'),
        movedBy: movers.get(row.workspaceId) ?? null,
        isOnTest: row.operationId !== null && tests.has(row.operationId),
        rental: rentals.get(row.id) ?? null,
        fleet,
        nowMs: clock.nowMs(),
      }),
    );
  }

  return {
    listInstances: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'instances',
        keyOf: (row: InstanceRow) => row.id,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) =>
          listInstances(db, { workspaceId: workspace?.id, includeGone: query.all === 'true', before: key, limit }),
      });
      return { items: await view(items), next };
    },
    getInstance: async ({ params }) => {
      const [only] = await view([await requireInstance(db, params.instanceId)]);
      return only as InstanceView;
    },
    destroyInstance: async ({ params, query }) => {
      const row = await requireInstance(db, params.instanceId);
      const operationId = await operations.release(row.id, { snapshotFirst: query.snapshot === 'true' });
      return { operationId, workspaceId: row.workspaceId };
    },
    injectLoss: async ({ params, body }) => {
      const row = await requireInstance(db, params.instanceId);
      await services.injectLoss(row.id, body.kind);
      return { instanceId: row.id, kind: body.kind, atMs: clock.nowMs() };
    },
  };
}
