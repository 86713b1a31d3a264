import type { InstanceId } from '@dumont/shared/model/ids.ts';

/** Why the detector believes what it says. `hard` evidence needs no waiting before the commit. */
export interface Evidence {
  readonly kind:
    | 'silence' // no heartbeat beyond the adaptive deadline
    | 'socket-closed' // the kernel closed the agent's connection
    | 'probe-refused' // the machine's port answers "connection refused"
    | 'probe-silent' // the machine's port does not answer in time
    | 'probe-answered' // the machine lives although the agent is silent
    | 'provider-gone' // the provider no longer knows the machine
    | 'provider-interrupted'
    | 'provider-failed'
    | 'provider-unreachable'
    | 'standby-hears' // its standby hears the machine, which is only cut off from us
    | 'standby-lost' // its standby lost it when we did
    | 'operator'; // a person triggered it
  readonly hard: boolean;
  /** Wall time it was obtained, ms. */
  readonly atMs: number;
  readonly detail?: string;
}

/**
 * What the detector says of one watched instance, in rising order; `alive` takes back a suspect or a confirm.
 * Times are wall milliseconds; silence is measured on the monotonic clock.
 */
export interface Verdict {
  readonly kind: 'suspect' | 'confirm' | 'commit' | 'alive';
  readonly instanceId: InstanceId;
  /** When the last sign of life arrived. */
  readonly lastBeatAtMs: number;
  /** From the last sign of life to this verdict. */
  readonly silenceMs: number;
  readonly evidence: readonly Evidence[];
}

/** Second opinions about one silent instance, time-boxed; never throws. */
export interface Corroborator {
  /** Resolves within `timeoutMs` with whatever was learned; several pieces of evidence may come back. */
  corroborate(instanceId: InstanceId, timeoutMs: number): Promise<readonly Evidence[]>;
}
