import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';

export function healthHandlers(services: ApiServices): Pick<Handlers, 'health'> {
  const startedMonotonicMs = services.clock.monotonicMs();
  return {
    health: async () => {
      // Proves that the database answers: a control plane without it is not healthy.
      await services.db.query('select 1');
      return {
        ok: true,
        version: services.version,
        database: services.db.flavour,
        connectedAgents: services.fleet.connectedCount,
        uptimeMs: services.clock.monotonicMs() - startedMonotonicMs,
      };
    },
  };
}
