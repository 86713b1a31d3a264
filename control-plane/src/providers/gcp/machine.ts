import { createHash } from 'node:crypto';
import type { MachineAddress, MachineStatus, ProviderMachine, ProviderRef } from '../provider.ts';
import type { ComputeInstance } from './wire.ts';

/** Every machine of ours has this label with this value; the list asks for it. */
export const MANAGED_LABEL = 'dumont-managed';
/** Which of its zone's offers the machine took. */
export const SLOT_LABEL = 'dumont-slot';

const PORT_TAG = /^dumont-tcp-(\d{1,5})$/;
const REF = /^(?<zone>[a-z]+-[a-z]+\d+-[a-z])\/(?<name>[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)$/;

export interface InstancePath {
  readonly zone: string;
  readonly name: string;
}

/** The name of the machine of a label: the same label is the same name, which a zone holds once. Pure. */
export function instanceName(label: string): string {
  return `dumont-${createHash('sha256').update(label).digest('hex').slice(0, 32)}`;
}

export function refOf({ zone, name }: InstancePath): ProviderRef {
  return `${zone}/${name}`;
}

/** Null for what is not a reference of ours. */
export function parseRef(ref: ProviderRef): InstancePath | null {
  const { zone, name } = REF.exec(ref)?.groups ?? {};
  return zone === undefined || name === undefined ? null : { zone, name };
}

/** The network tag that opens a TCP port; its firewall rule has the same name. */
export function portTag(port: number): string {
  return `dumont-tcp-${port}`;
}

/** The slot of its zone that a machine holds; null for a machine of another kind. */
export function slotOf({ labels }: ComputeInstance): number | null {
  const slot = labels[SLOT_LABEL];
  return slot === undefined ? null : Number(slot);
}

/**
 * What Compute Engine says of a machine, reduced. We never stop one, so a halt that no operation of ours explains and no
 * preemption either is `stopped`. Pure.
 * @param isPreempted whether the zone's operations tell of its preemption; asked for halted machines only
 */
export function toMachine(
  instance: ComputeInstance,
  { isPreempted, sshPort }: { readonly isPreempted: boolean; readonly sshPort: number },
): ProviderMachine {
  const host = instance.externalIp;
  const at = (port: number): MachineAddress | null => (host === null ? null : { host, port });
  const ports = new Map<number, MachineAddress>();
  for (const tag of instance.tags) {
    const port = Number(PORT_TAG.exec(tag)?.[1]);
    if (host !== null && !Number.isNaN(port)) ports.set(port, { host, port });
  }
  return {
    ref: refOf(instance),
    label: instance.description,
    status: isPreempted ? 'interrupted' : statusOf(instance),
    rawStatus: instance.status,
    statusMessage: isPreempted ? 'preempted' : instance.statusMessage,
    probe: at(sshPort),
    ssh: at(sshPort),
    ports,
  };
}

/** True for a machine on its way down or down, whoever asked for it. */
export function isHalted(instance: ComputeInstance): boolean {
  return statusOf(instance) === 'stopped';
}

const STATUS: ReadonlyMap<string, MachineStatus> = new Map([
  ['PENDING', 'pending'],
  ['PROVISIONING', 'pending'],
  ['STAGING', 'pending'],
  ['RUNNING', 'running'],
  // Its host broke and it is being moved; nobody can use it meanwhile.
  ['REPAIRING', 'unreachable'],
  ['PENDING_STOP', 'stopped'],
  ['STOPPING', 'stopped'],
  ['STOPPED', 'stopped'],
  ['TERMINATED', 'stopped'],
  ['DEPROVISIONING', 'stopped'],
  ['SUSPENDING', 'stopped'],
  ['SUSPENDED', 'stopped'],
]);

/** An unknown word is never a failure. */
function statusOf({ status, hasStarted }: ComputeInstance): MachineStatus {
  return STATUS.get(status) ?? (hasStarted ? 'running' : 'pending');
}
