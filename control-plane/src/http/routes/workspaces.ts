import type { WorkspaceView } from '@dumont/shared/api/views.ts';
import { headTimesOf, moversOf } from '../../store/lookups.ts';
import type { WorkspaceRow } from '../../store/workspaces.ts';
import { primaryRolesOf, standbysOf } from '../../store/standbys.ts';
import { listWorkspaces } from '../../store/workspaces.ts';
import { readPage } from '../cursor.ts';
import { requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';
import { workspaceView } from '../views.ts';

export function workspaceHandlers(
  services: ApiServices,
): Pick<Handlers, 'provision' | 'listWorkspaces' | 'getWorkspace' | 'createGatewayToken'> {
  const { db, operations, gateway, fleet } = services;

  async function view(rows: readonly WorkspaceRow[]): Promise<WorkspaceView[]> {
    const ids = rows.map((row) => row.id);
    const [headTimes, movers, addresses, standbys, roles] = await Promise.all([
      headTimesOf(db, ids),
      moversOf(db, ids),
      gateway.of(rows),
      standbysOf(db, ids),
      primaryRolesOf(db, ids),
    ]);
    return rows.map((row) =>
      workspaceView(row, {
        headCommittedAtMs: headTimes.get(row.id) ?? null,
        movedBy: movers.get(row.id) ?? null,
        gateway: addresses.get(row.id) ?? { ssh: null, http: null },
        standby: standbys.get(row.id),
        servedBy: roles.get(row.id) ?? null,
        fleet,
      }),
    );
  }

  return {
    provision: ({ body }) => operations.provision(body),
    listWorkspaces: async ({ query }) => {
      const { items, next } = await readPage(query, {
        name: 'workspaces',
        keyOf: (row: WorkspaceRow) => row.name,
        keyPattern: /^[\w.-]+$/,
        read: ({ key, limit }) => listWorkspaces(db, { after: key, limit }),
      });
      return { items: await view(items), next };
    },
    getWorkspace: async ({ params }) => {
      const row = await requireWorkspace(db, params.workspace);
      const [only] = await view([row]);
      return only as WorkspaceView;
    },
    createGatewayToken: async ({ params, body }) =>
      gateway.createToken(await requireWorkspace(db, params.workspace), body),
  };
}
