import { hookTimeoutMs, type Workload } from '@dumont/shared/model/policy.ts';
import type { OperationLimits } from './operation-parts.ts';

/** On top of what the agent itself waits for: the way there and back, and processes that die slowly. */
const STOP_MARGIN_MS = 5_000;

/** How long an orderly stop may take, its hook included, ms. Pure. */
export function stopTimeoutMs(
  { workloadGraceMs }: Pick<OperationLimits, 'workloadGraceMs'>,
  workload: Workload | undefined,
): number {
  const hookMs = workload?.preStop === undefined ? 0 : hookTimeoutMs(workload);
  return hookMs + workloadGraceMs * 2 + STOP_MARGIN_MS;
}

/** How long a start may take until the workload's check is made, ms. Pure. */
export function checkedStartTimeoutMs(
  { workloadStartTimeoutMs }: Pick<OperationLimits, 'workloadStartTimeoutMs'>,
  workload: Workload,
): number {
  return workloadStartTimeoutMs + (workload.check?.timeoutMs ?? 0);
}
