import type { Handlers } from './handler.ts';
import { agentHandlers } from './routes/agents.ts';
import { branchHandlers } from './routes/branches.ts';
import { detectionHandlers } from './routes/detection.ts';
import { enrolmentHandlers } from './routes/enrolments.ts';
import { eventHandlers } from './routes/events.ts';
import { failoverHandlers } from './routes/failovers.ts';
import { healthHandlers } from './routes/health.ts';
import { instanceHandlers } from './routes/instances.ts';
import { ledgerHandlers } from './routes/ledger.ts';
import { machineHistoryHandlers } from './routes/machine-history.ts';
import { operationHandlers } from './routes/operations.ts';
import { regionHandlers } from './routes/regions.ts';
import { snapshotHandlers } from './routes/snapshots.ts';
import { testHandlers } from './routes/tests.ts';
import { workspaceHandlers } from './routes/workspaces.ts';
import type { ApiServices } from './services.ts';

/** Every endpoint's handler over the same services. */
export function createHandlers(services: ApiServices): Handlers {
  return {
    ...healthHandlers(services),
    ...workspaceHandlers(services),
    ...instanceHandlers(services),
    ...agentHandlers(services),
    ...enrolmentHandlers(services),
    ...snapshotHandlers(services),
    ...branchHandlers(services),
    ...failoverHandlers(services),
    ...testHandlers(services),
    ...detectionHandlers(services),
    ...operationHandlers(services),
    ...ledgerHandlers(services),
    ...machineHistoryHandlers(services),
    ...eventHandlers(services),
    ...regionHandlers(),
  };
}
