import { createHash } from 'node:crypto';
import type { MachineStatus, ProviderMachine } from '../provider.ts';
import type { TensorDockInstance } from './wire.ts';

const SSH_PORT = 22;

/** A machine tells nothing of its host, so its name does: the label, and a mark of the offer it came from. */
const NAME = /^(?<label>.+)--(?<mark>[0-9a-f]{12})$/;

/** What a machine of this label on this offer is called. Pure. */
export function machineName(label: string, offerId: string): string {
  return `${label}--${offerMark(offerId)}`;
}

/** Stands for an offer in the names of machines. Pure. */
export function offerMark(offerId: string): string {
  return createHash('sha256').update(offerId).digest('hex').slice(0, 12);
}

/** The offer that a machine of ours came from, as its mark; null for a stranger. Pure. */
export function markOf({ name }: TensorDockInstance): string | null {
  return NAME.exec(name)?.groups?.['mark'] ?? null;
}

/** The label of a machine; its whole name when we did not name it. Pure. */
export function labelOf({ name }: TensorDockInstance): string {
  return NAME.exec(name)?.groups?.['label'] ?? name;
}

/** By TensorDock's word in lower case without separators. We never stop a machine: who lost its GPU lost it to another. */
const STATUS: ReadonlyMap<string, MachineStatus | 'gone'> = new Map([
  ['queued', 'pending'],
  ['creating', 'pending'],
  ['starting', 'pending'],
  ['running', 'running'],
  ['stopping', 'stopped'],
  ['stopped', 'stopped'],
  ['stoppeddisassociated', 'interrupted'],
  ['outbid', 'interrupted'],
  ['terminated', 'gone'],
  ['deleted', 'gone'],
]);

/** The machine as decisions need it; null for one that the list keeps for the record only. Pure. */
export function toMachine(instance: TensorDockInstance): ProviderMachine | null {
  // An unknown word is a change under way, never a life or a death.
  const status = STATUS.get(instance.status.toLowerCase().replaceAll(/[_\s-]/g, '')) ?? 'pending';
  if (status === 'gone') return null;
  const { ipAddress: host, portForwards } = instance;
  const ports = new Map(
    host === null || host === undefined
      ? []
      : (portForwards ?? []).map(({ internal_port, external_port }) => [internal_port, { host, port: external_port }]),
  );
  const ssh = ports.get(SSH_PORT) ?? null;
  ports.delete(SSH_PORT);
  return {
    ref: instance.id,
    label: labelOf(instance),
    status,
    rawStatus: instance.status === '' ? null : instance.status,
    statusMessage: null,
    probe: ssh,
    ssh,
    ports,
  };
}
