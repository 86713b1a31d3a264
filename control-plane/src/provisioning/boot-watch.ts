import type { InstanceId } from '@dumont/shared/model/ids.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { ProviderMachine, ProviderRegistry } from '../providers/provider.ts';
import { findEnrolment } from '../store/enrolments.ts';
import { findInstance } from '../store/instances.ts';
import { findLedger } from '../store/ledger.ts';
import { noteBootTimes } from '../store/machine-boots.ts';
import { bootstrapOverSsh, type BootstrapParts } from './bootstrap/ssh-bootstrap.ts';
import { providerOf } from './provider-of.ts';

export interface BootWatchParts extends BootstrapParts {
  readonly providers: ProviderRegistry;
  /** How long after a machine is up its own start script has for the agent's hello, before we go and install it, ms. */
  readonly startScriptMs: number;
}

/** How often a booting machine's status is asked for: providers bill requests to a rate limit, agents speak up themselves. */
const STATUS_POLL_MS = 1_000;

/** What is seen of one machine between its order and its agent's hello. */
export class BootWatch {
  readonly #parts: BootWatchParts;
  readonly #instanceId: InstanceId;
  /** Called once when the machine will never come up. */
  readonly #fail: (reason: string) => void;
  #runningSinceMs: number | null = null;
  #bootstrap: Promise<void> | null = null;
  #letInMs: number | null = null;

  constructor(parts: BootWatchParts, instanceId: InstanceId, fail: (reason: string) => void) {
    this.#parts = parts;
    this.#instanceId = instanceId;
    this.#fail = fail;
  }

  /**
   * Turns a provider's "this will never come up" into a failure, and installs the agent where that is ours to do. A status
   * that cannot be had is no news. Never rejects; ends when the signal aborts.
   */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#parts.clock.sleep(STATUS_POLL_MS, signal);
        const reason = await this.#look(signal);
        if (reason !== undefined) this.#fail(reason);
      } catch {
        // Aborted, or the provider did not answer this time: the boot deadline bounds the wait.
      }
    }
    await this.#bootstrap;
  }

  /** The agent said hello. Never rejects. */
  async noteHello(): Promise<void> {
    if (this.#letInMs === null) return;
    const { db, clock, log } = this.#parts;
    try {
      await noteBootTimes(db, this.#instanceId, { installMs: clock.monotonicMs() - this.#letInMs });
    } catch (error) {
      // A good machine is not given back for a figure.
      log.warn({ event: 'boot.times', instanceId: this.#instanceId, err: error }, 'install time not kept');
    }
  }

  async #look(signal: AbortSignal): Promise<string | undefined> {
    const { db, providers } = this.#parts;
    const instance = await findInstance(db, this.#instanceId);
    if (instance === undefined || instance.state === 'releasing' || instance.state === 'gone')
      return 'it was given back';
    const ledger = await findLedger(db, this.#instanceId);
    if (ledger === undefined || ledger.providerRef === null) return undefined;
    const enrolment = await findEnrolment(db, this.#instanceId);
    if (enrolment !== undefined && enrolment.revokedAtMs !== null) return 'its enrolment token was revoked';
    const machine = await providerOf(providers, ledger.provider).show(ledger.providerRef, { signal });
    if (machine === null) return 'the provider does not know it any more';
    if (machine.status === 'running') await this.#runs(machine, instance, signal);
    const hopeless = machine.status === 'failed' || machine.status === 'interrupted' || machine.status === 'stopped';
    return hopeless ? `the provider says ${machine.rawStatus ?? machine.status}` : undefined;
  }

  async #runs(
    machine: ProviderMachine,
    instance: { readonly offer: { readonly provider: string }; readonly requestedAtMs: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { db, clock, providers, startScriptMs } = this.#parts;
    if (this.#runningSinceMs === null) {
      this.#runningSinceMs = clock.monotonicMs();
      await noteBootTimes(db, this.#instanceId, { runningMs: clock.nowMs() - instance.requestedAtMs });
    }
    const { sshAccess } = providerOf(providers, instance.offer.provider);
    if (sshAccess === undefined || machine.ssh === null || this.#bootstrap !== null) return;
    const patienceMs = sshAccess.hasStartScript ? startScriptMs : 0;
    if (clock.monotonicMs() - this.#runningSinceMs < patienceMs) return;
    this.#bootstrap = this.#install(machine, signal);
  }

  /** Never rejects. */
  async #install(machine: ProviderMachine, signal: AbortSignal): Promise<void> {
    const { db, log, providers } = this.#parts;
    const instanceId = this.#instanceId;
    try {
      const instance = must(await findInstance(db, instanceId), 'it was just looked at');
      const provider = providerOf(providers, instance.offer.provider);
      const access = must(provider.sshAccess, 'it was just looked at');
      const address = must(machine.ssh, 'it was just looked at');
      const onLetIn = () => {
        this.#letInMs = this.#parts.clock.monotonicMs();
      };
      const target = { instanceId, ref: machine.ref, address, access, onLetIn };
      const outcome = await bootstrapOverSsh(this.#parts, target, { signal });
      if (outcome.kind === 'installed') return;
      log.warn({ event: 'bootstrap.failed', instanceId, ...outcome }, 'the agent could not be installed over SSH');
      // Two installers at once get in each other's way: the start script's own may still succeed.
      if (outcome.kind === 'not-installed' && access.hasStartScript) return;
      this.#fail(outcome.reason);
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ event: 'bootstrap.failed', instanceId, err: error }, 'the agent could not be installed over SSH');
      this.#bootstrap = null;
    }
  }
}
