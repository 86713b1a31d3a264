import type { AgentView } from '@dumont/shared/api/views.ts';
import { ID_PATTERN } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { InstanceRow } from '../../store/instances.ts';
import { listInstances } from '../../store/instances.ts';
import { readPage } from '../cursor.ts';
import { requireInstance, requireWorkspace } from '../find.ts';
import type { BodyOf } from '@dumont/shared/api/call.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';

/** As many as can be connected. */
const MAX_INSTANCES = 20_000;

export function agentHandlers(services: ApiServices): Pick<Handlers, 'listAgents' | 'upgradeAgents'> {
  const { db, fleet, upgrades } = services;

  async function view(rows: readonly InstanceRow[]): Promise<AgentView[]> {
    const names = new Map<string, string>();
    for (const id of new Set(rows.map((row) => row.workspaceId))) names.set(id, (await requireWorkspace(db, id)).name);
    return rows.map((row) => {
      const agent = fleet.agent(row.id);
      return {
        instanceId: row.id,
        workspaceId: row.workspaceId,
        workspaceName: must(names.get(row.workspaceId), 'an instance has a workspace'),
        role: row.role,
        connected: fleet.isConnected(row.id),
        version: agent?.version ?? null,
        upgradable: agent?.upgradable ?? null,
        upgrade: upgrades.state(row.id),
      };
    });
  }

  async function meant(body: BodyOf<'upgradeAgents'>): Promise<readonly InstanceRow[]> {
    if (body.instanceId !== undefined) return [await requireInstance(db, body.instanceId)];
    const workspace = body.workspace === undefined ? undefined : await requireWorkspace(db, body.workspace);
    return listInstances(db, { workspaceId: workspace?.id, includeGone: false, limit: MAX_INSTANCES });
  }

  return {
    listAgents: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const { items, next } = await readPage(query, {
        name: 'agents',
        keyOf: (row: InstanceRow) => row.id,
        keyPattern: ID_PATTERN,
        read: ({ key, limit }) =>
          listInstances(db, { workspaceId: workspace?.id, includeGone: false, before: key, limit }),
      });
      return { items: await view(items), next, newestVersion: await upgrades.newest() };
    },
    upgradeAgents: async ({ body }) => {
      const { version, agents } = await upgrades.order(await meant(body), { version: body.version, force: body.force });
      return { version, agents: [...agents] };
    },
  };
}
