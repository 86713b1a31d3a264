import { AGENT_CHECKS } from './agent-checks.ts';
import type { Check } from './check.ts';
import { DISK_CHECKS } from './disk-checks.ts';
import { FILE_CHECKS } from './file-checks.ts';
import { GPU_CHECKS } from './gpu-checks.ts';
import { HOST_CHECKS } from './host-checks.ts';
import { LIMIT_CHECKS } from './limit-checks.ts';
import { LINK_CHECKS } from './link-checks.ts';
import { STORAGE_CHECKS } from './storage-checks.ts';
import { WORKSPACE_CHECKS } from './workspace-checks.ts';

/** Everything the doctor looks at, in the order it is told. */
export const CHECKS: readonly Check[] = [
  ...HOST_CHECKS,
  ...GPU_CHECKS,
  ...LIMIT_CHECKS,
  ...WORKSPACE_CHECKS,
  ...DISK_CHECKS,
  ...FILE_CHECKS,
  ...LINK_CHECKS,
  ...AGENT_CHECKS,
  ...STORAGE_CHECKS,
];
