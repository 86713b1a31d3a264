import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Assignment, Hello, Refused } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotCommit, SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';

/** The hub's questions to the rest of the control plane; answered from the database. */
export interface AgentDirectory {
  /** Who is this, and what is it to its workspace now? Checks the credential in constant time. */
  admit(hello: Hello): Promise<{ readonly kind: 'admitted'; readonly assignment: Assignment } | Refusal>;
  /** Lets the agent in with this credential as well as with its present one. Idempotent. */
  proposeCredential(instanceId: InstanceId, credential: string): Promise<void>;
  /** Makes the credential proposed last the only one. Idempotent; one that was not proposed changes nothing. */
  confirmCredential(instanceId: InstanceId, credential: string): Promise<void>;
  /** Compare-and-swap of the workspace's head on (epoch, parent); idempotent by snapshot id. */
  commitSnapshot(instanceId: InstanceId, commit: SnapshotCommit): Promise<SnapshotVerdict['verdict']>;
}

export interface Refusal {
  readonly kind: 'refused';
  readonly refused: Omit<Refused, 'kind'>;
  /** One of CLOSE_CODES. */
  readonly closeCode: number;
}
