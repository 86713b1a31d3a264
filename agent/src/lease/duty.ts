import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { WorkOptions } from './engine.ts';

/** What an agent does for its workspace, beyond beating and sampling. One implementation per role. */
export interface Duty extends AsyncDisposable {
  /** The newest assignment; takes effect in the background, a fence at once. Never throws. */
  assign(assignment: Assignment): void;
  /** The control plane can be asked again. */
  online(): void;
  /** An epoch was heard outside an assignment. */
  epochHeard(epoch: number): void;
  perform(action: Action, options: WorkOptions): Promise<ActionResult>;
  /** Age of the oldest change not in a committed snapshot, ms; 0 when everything is safe. */
  unsavedMs(): number;
  /** What a standby does not have yet, bytes and the age of the oldest of it; null without continuous sync. */
  standbyBehind(): { readonly pendingBytes: number; readonly pendingMs: number } | null;
  readonly workloadState: WorkloadState;
  /** The machine is about to go: saves what can be saved within the time. Never throws. */
  lastWords(withinMs: number): Promise<void>;
  /** Ends the user's command; `own` leaves alone what another agent process may have started. */
  stopWorkload(scope: 'all' | 'own'): Promise<void>;
}
