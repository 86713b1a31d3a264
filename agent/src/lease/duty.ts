import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { LastWords } from '@dumont/shared/protocol/notice.ts';
import type { WorkOptions } from './engine.ts';
import type { PeerWord } from './peer-ear.ts';

/** What is asked of the workspace; an upgrade is the agent's own matter. */
export type DutyAction = Exclude<Action, { readonly name: 'upgrade' }>;

/** What an agent does for its workspace, beyond beating and sampling. One implementation per role. */
export interface Duty extends AsyncDisposable {
  /** The newest assignment; takes effect in the background, a fence at once. Never throws. */
  assign(assignment: Assignment): void;
  /** The control plane can be asked again. */
  online(): void;
  /** An epoch was heard outside an assignment. */
  epochHeard(epoch: number): void;
  perform(action: DutyAction, options: WorkOptions): Promise<ActionResult>;
  /** Age of the oldest change not in a committed snapshot, ms; 0 when everything is safe. */
  unsavedMs(): number;
  /** Size of the files with changes not in a committed snapshot, at most a second old; null while that is not known. */
  unsavedBytes(): number | null;
  /** What a standby does not have yet, bytes and the age of the oldest of it; null without continuous sync. */
  standbyBehind(): { readonly pendingBytes: number; readonly pendingMs: number } | null;
  /** A standby's word on its primary; absent for duties without one, null while it cannot know. */
  peerWord?(): PeerWord | null;
  readonly workloadState: WorkloadState;
  /**
   * The machine is about to go: has the workload save what it holds in memory, and saves what can be saved within the
   * time. The workload runs on. Never throws.
   * @returns what is safe; null when this duty publishes nothing
   */
  lastWords(withinMs: number): Promise<LastWords | null>;
  /** Ends the user's command, whichever agent process started it. */
  stopWorkload(): Promise<void>;
  /** Another agent process is about to take over: waits until no snapshot lacks just its verdict. Never throws. */
  settle(withinMs: number): Promise<void>;
}
