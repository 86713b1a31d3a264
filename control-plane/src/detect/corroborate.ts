import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import type { ProviderMachine } from '../providers/provider.ts';
import { probeTcp } from './tcp-prober.ts';
import type { Corroborator, Evidence } from './verdict.ts';

/** Where second opinions about one instance can be had; either may be missing. */
export interface MachineLocation {
  readonly probe: { readonly host: string; readonly port: number } | null;
  /** The provider's present view (`Provider.show` of its reference), null while there is none. */
  readonly show: ((options: { readonly signal: AbortSignal }) => Promise<ProviderMachine | null>) | null;
}

export interface MachineCorroboratorOptions {
  /** Null for an unknown instance. May throw: that is no evidence. */
  readonly locate: (
    instanceId: InstanceId,
    options: { readonly signal: AbortSignal },
  ) => Promise<MachineLocation | null> | MachineLocation | null;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Asks the machine itself (one TCP connection) and its provider, in parallel. Whoever does not answer within the time-box
 * adds nothing, except that a machine's silence is evidence too.
 */
export class MachineCorroborator implements Corroborator {
  readonly #options: MachineCorroboratorOptions;
  /** When each instance's provider was last asked, monotonic ms, oldest first. */
  readonly #askedProviderAtMs = new Map<InstanceId, number>();

  constructor(options: MachineCorroboratorOptions) {
    this.#options = options;
  }

  async corroborate(instanceId: InstanceId, timeoutMs: number): Promise<readonly Evidence[]> {
    const { clock, locate } = this.#options;
    const timeout = new AbortController();
    let expire = () => {};
    const expired = new Promise<null>((resolve) => {
      expire = () => resolve(null);
    });
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    const cancel = clock.after(timeoutMs, () => {
      timeout.abort(new DOMException('no answer within the time-box', 'TimeoutError'));
      expire();
    });
    const withinTheBox = <T>(work: () => Promise<T> | T) => this.#quietly(instanceId, work, expired);
    try {
      const location = await withinTheBox(() => locate(instanceId, { signal: timeout.signal }));
      if (location === null) return [];
      const leftMs = Math.max(0, deadlineMs - clock.monotonicMs());
      const found = await Promise.all([
        this.#askMachine(location, leftMs),
        withinTheBox(() => (this.#mayAskProvider(instanceId) ? this.#askProvider(location, timeout.signal) : null)),
      ]);
      return found.filter((evidence) => evidence !== null);
    } finally {
      cancel();
    }
  }

  async #askMachine(location: MachineLocation, timeoutMs: number): Promise<Evidence | null> {
    const { clock } = this.#options;
    if (location.probe === null) return null;
    const result = await probeTcp(location.probe, { timeoutMs, clock });
    const detail = `${location.probe.host}:${location.probe.port}`;
    return { kind: `probe-${result}`, hard: result === 'refused', atMs: clock.nowMs(), detail };
  }

  /** Providers limit how often they may be asked, so at most about once a second per instance. */
  #mayAskProvider(instanceId: InstanceId): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    for (const [id, askedAtMs] of this.#askedProviderAtMs) {
      if (nowMs - askedAtMs < PROVIDER_EVERY_MS) break;
      this.#askedProviderAtMs.delete(id);
    }
    if (this.#askedProviderAtMs.has(instanceId)) return false;
    this.#askedProviderAtMs.set(instanceId, nowMs);
    return true;
  }

  async #askProvider(location: MachineLocation, signal: AbortSignal): Promise<Evidence | null> {
    if (location.show === null) return null;
    const machine = await location.show({ signal });
    return providerEvidence(machine, this.#options.clock.nowMs());
  }

  /** The work's value, or null when it fails or the box closes first. A late failure is of no interest to anyone. */
  async #quietly<T>(instanceId: InstanceId, work: () => Promise<T> | T, expired: Promise<null>): Promise<T | null> {
    const attempt = (async () => work())().catch((error: unknown) => {
      this.#options.log.debug({ event: 'second-opinion-missing', instanceId, error }, 'second opinion failed');
      return null;
    });
    return Promise.race([attempt, expired]);
  }
}

/** A little under the period of the rechecks, so that each of them may ask. */
const PROVIDER_EVERY_MS = 900;

/** What a provider's view proves. A `running` proves nothing: providers notice dead hosts minutes later. Pure. */
export function providerEvidence(machine: ProviderMachine | null, atMs: number): Evidence | null {
  if (machine === null) return { kind: 'provider-gone', hard: true, atMs };
  const detail = machine.rawStatus ?? machine.status;
  switch (machine.status) {
    case 'interrupted':
      return { kind: 'provider-interrupted', hard: true, atMs, detail };
    case 'failed':
      return { kind: 'provider-failed', hard: true, atMs, detail };
    case 'unreachable':
      return { kind: 'provider-unreachable', hard: false, atMs, detail };
    case 'pending':
    case 'running':
    case 'stopped':
      return null;
    default:
      return assertNever(machine.status);
  }
}
