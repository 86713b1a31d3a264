import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Duty } from './duty.ts';

/** A standby is present and measured; it runs and publishes nothing. */
export class StandbyDuty implements Duty {
  readonly workloadState = 'unstarted';

  assign(): void {}

  online(): void {}

  epochHeard(): void {}

  perform(action: { readonly name: string }): Promise<ActionResult> {
    return Promise.reject(new DumontError('UNSUPPORTED', `a standby does not perform ${action.name}`));
  }

  unsavedMs(): number {
    return 0;
  }

  async lastWords(): Promise<void> {}

  async stopWorkload(): Promise<void> {}

  async settle(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
