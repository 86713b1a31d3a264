import { listEvents } from '../../store/events.ts';
import { requireWorkspace } from '../find.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';

export function eventHandlers(services: ApiServices): Pick<Handlers, 'listEvents'> {
  const { db } = services;
  return {
    listEvents: async ({ query }) => {
      const workspace = query.workspace === undefined ? undefined : await requireWorkspace(db, query.workspace);
      const events = await listEvents(db, {
        after: query.after,
        limit: query.limit,
        ...(workspace === undefined ? {} : { workspaceId: workspace.id }),
      });
      return { items: [...events] };
    },
  };
}
