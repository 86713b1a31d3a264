import type { InstanceId, SnapshotId } from '@dumont/shared/model/ids.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';

/** What a workspace holds, as the numbers of all writes that made it. */
export type Content = readonly number[];

/** A rented machine and its agent, as far as it matters who may write and what is kept. */
export class SimMachine {
  readonly ref: string;
  readonly label: string;
  readonly enrolToken: string;
  readonly credential: string;
  instanceId: InstanceId | null = null;
  role: 'gpu' | 'standby' = 'gpu';
  isAlive = true;
  isFrozen = false;
  /** Whether packets pass between it and the control plane, and between it and its partner of sync. */
  controlUp = true;
  syncUp = true;
  /** Faults that were done to it. */
  harmed = false;
  assignment: Assignment | null = null;
  highestEpoch = 0;
  content: Content = [];
  isWorking = false;
  /** Monotonic time of the first write that the partner lacks; null when it lacks none. */
  behindSinceMs: number | null = null;
  /** The token of the partner that has had everything once. */
  syncedToken: string | null = null;
  /** As a standby: when its primary was last heard, and of which epoch. */
  heard: { readonly atMs: number; readonly epoch: number } | null = null;
  headId: SnapshotId | null = null;
  savedContent: Content | null = null;
  isPublishing = false;

  constructor(parts: {
    readonly ref: string;
    readonly label: string;
    readonly enrolToken: string;
    readonly credential: string;
  }) {
    this.ref = parts.ref;
    this.label = parts.label;
    this.enrolToken = parts.enrolToken;
    this.credential = parts.credential;
  }

  get runs(): boolean {
    return this.isAlive && !this.isFrozen;
  }

  get reachesControl(): boolean {
    return this.runs && this.controlUp;
  }

  /** By all it knows, it is the one that may write. */
  get believesPrimary(): boolean {
    const { assignment } = this;
    return assignment?.standing === 'primary' && assignment.epoch >= this.highestEpoch;
  }

  /** The agent's rules for a new assignment. */
  assign(assignment: Assignment): void {
    this.assignment = assignment;
    this.highestEpoch = Math.max(this.highestEpoch, assignment.epoch);
    this.headId ??= assignment.head?.snapshotId ?? null;
    if (assignment.standing === 'primary') {
      // A standby that is made primary goes on by itself: users are there.
      if (this.role === 'standby') this.isWorking = true;
      return;
    }
    this.isWorking = false;
    this.behindSinceMs = null;
  }

  /** A word of this partner and epoch is listened to. */
  hearsSync(token: string, epoch: number): boolean {
    const sync = this.assignment?.sync;
    if (sync?.role !== 'receive' || sync.token !== token) return false;
    return this.runs && this.syncUp && this.highestEpoch <= epoch && this.assignment?.standing === 'standby';
  }
}
