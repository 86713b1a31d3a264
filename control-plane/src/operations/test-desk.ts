import type { Simulation } from '@dumont/shared/api/simulation.ts';
import type { FailoverTestBody, ProviderTestBody } from '@dumont/shared/api/test-endpoints.ts';
import type { TestReport } from '@dumont/shared/api/test-report.ts';
import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import type { OperationParts } from './operation-parts.ts';
import type { OperationRunner } from './runner.ts';
import type { SimulationParts } from './simulate-failover.ts';
import { simulateFailover } from './simulate-failover.ts';
import { startFailoverTest, startProviderTest } from './start-test.ts';
import { buildTestReport } from './test-report.ts';

/** Starts, reports and ends tests over one set of parts; what each may throw is said where it is done. */
export function openTestDesk(
  parts: OperationParts,
  { runner, fleet }: { readonly runner: OperationRunner; readonly fleet: SimulationParts['fleet'] },
) {
  const begun = (testId: OperationId): OperationId => {
    runner.nudge();
    return testId;
  };
  return {
    simulate: (workspaceId: WorkspaceId, how: { readonly signal: AbortSignal }): Promise<Simulation> =>
      simulateFailover({ ...parts, fleet }, workspaceId, how),
    failover: async (workspace: WorkspaceRow, body: Pick<FailoverTestBody, 'model' | 'check'>) =>
      begun(await startFailoverTest(parts, workspace, body)),
    provider: async (body: ProviderTestBody) => begun(await startProviderTest(parts, body)),
    report: (testId: string): Promise<TestReport> => buildTestReport(parts.db, testId, parts.clock.nowMs()),
    cancel: (testId: string): Promise<boolean> =>
      runner.interrupt(testId as OperationId, 'cancelled', { failure: 'cancelled by an operator' }),
  };
}
