import type { Offer } from '@dumont/shared/model/offer.ts';

/** A provider's own name for a machine we rented. */
export type ProviderRef = string;

/**
 * A provider's status reduced to what decisions need (facts: Vast and TensorDock map onto these).
 * - `pending`: accepted, not up yet (a null status counts as pending)
 * - `running`: up
 * - `stopped`: halted because we asked
 * - `interrupted`: taken away (outbid, preempted): hard evidence of loss
 * - `failed`: will never come up
 * - `unreachable`: the provider itself has lost contact with the host
 */
export type MachineStatus = 'pending' | 'running' | 'stopped' | 'interrupted' | 'failed' | 'unreachable';

/** Where a TCP port of a machine is reached from outside. */
export interface MachineAddress {
  readonly host: string;
  readonly port: number;
}

export interface ProviderMachine {
  readonly ref: ProviderRef;
  /** What we named it at creation; the handle by which strangers are found. */
  readonly label: string;
  readonly status: MachineStatus;
  /** The provider's own word, null while it has none; for people and logs. */
  readonly rawStatus: string | null;
  readonly statusMessage: string | null;
  /** Where a TCP connection is answered with a banner while the machine lives; null until known. */
  readonly probe: MachineAddress | null;
  /** Where its SSH server is reached; null until known, and where it has none. */
  readonly ssh: MachineAddress | null;
  /** Where the ports asked for at its creation are reached, by the number the workload listens on; none until known. */
  readonly ports: ReadonlyMap<number, MachineAddress>;
}

export interface CreateRequest {
  readonly offer: Offer;
  /** Unique; creating the same label twice gives the same machine. */
  readonly label: string;
  /** What the machine starts with: the agent's environment (control plane URL, one-time enrolment token). */
  readonly agentEnvironment: Readonly<Record<string, string>>;
  /** TCP ports of the workload to open besides SSH; absent: none. */
  readonly ports?: readonly number[];
}

/** Refusals are ordinary outcomes of a market; only an unclear result is thrown. */
export type CreateOutcome =
  | { readonly kind: 'created'; readonly ref: ProviderRef }
  | { readonly kind: 'offer-gone' }
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * One marketplace or cloud. Adapters hide wire formats, rate limits and odd statuses; they hold no domain decisions.
 * Every method honours its signal and throws {@link DumontError} PROVIDER or UNAVAILABLE.
 */
export interface Provider {
  readonly name: string;
  /** How to get into its machines with an SSH key of ours; absent: there is no way. */
  readonly sshAccess?: SshAccess;
  /** Current listings, unfiltered by policy and in no particular order; at most a few hundred. */
  searchOffers(options: { readonly signal: AbortSignal }): Promise<readonly Offer[]>;
  /**
   * Rents a machine. After a throw the machine may or may not exist: the caller finds out by label.
   */
  create(request: CreateRequest, options: { readonly signal: AbortSignal }): Promise<CreateOutcome>;
  /** The machine as the provider sees it, null when it does not exist (any more). */
  show(ref: ProviderRef, options: { readonly signal: AbortSignal }): Promise<ProviderMachine | null>;
  /** Every machine of this account, ours or not. */
  list(options: { readonly signal: AbortSignal }): Promise<readonly ProviderMachine[]>;
  /** Asks for destruction; destroying an unknown machine is success. Completion is proven by `show` answering null. */
  destroy(ref: ProviderRef, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** Where the agent can be installed over SSH, as `ssh` of a machine tells. */
export interface SshAccess {
  /** Who logs in: root, or somebody who becomes root by sudo without a password. */
  readonly user: string;
  /** Its machines start with a script that installs the agent; SSH is for where that did not work. */
  readonly hasStartScript: boolean;
  /** Lets the holder of an OpenSSH public key log in, soon; idempotent. Throws as the provider's methods do. */
  letIn(ref: ProviderRef, publicKey: string, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** Providers by name. */
export type ProviderRegistry = ReadonlyMap<string, Provider>;
