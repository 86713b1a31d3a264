import type { InstanceId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { AgentRole } from '@dumont/shared/model/instance.ts';

/** An agent that is to run another version. */
export interface UpgradeCandidate {
  readonly instanceId: InstanceId;
  readonly workspaceId: WorkspaceId;
  readonly role: AgentRole;
}

/**
 * Who is upgraded next, in order. Pure. At most `slots` agents and one of a workspace at a time, so that a version that
 * does not come up meets few; standbys first, which nobody works on; nobody whose workspace is being moved.
 * @param waiting in the order in which they were asked for
 */
export function chooseUpgrades<Candidate extends UpgradeCandidate>(
  waiting: readonly Candidate[],
  facts: {
    readonly slots: number;
    /** Workspaces with an operation or with an upgrade under way. */
    readonly busyWorkspaces: ReadonlySet<WorkspaceId>;
    readonly isConnected: (instanceId: InstanceId) => boolean;
  },
): readonly Candidate[] {
  const chosen: Candidate[] = [];
  const busy = new Set(facts.busyWorkspaces);
  for (const candidate of waiting.toSorted((a, b) => rank(a) - rank(b))) {
    if (chosen.length >= facts.slots) break;
    if (!facts.isConnected(candidate.instanceId) || busy.has(candidate.workspaceId)) continue;
    busy.add(candidate.workspaceId);
    chosen.push(candidate);
  }
  return chosen;
}

function rank(candidate: UpgradeCandidate): number {
  return candidate.role === 'standby' ? 0 : 1;
}
