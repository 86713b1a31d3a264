import { createHash } from 'node:crypto';
import { startupScript } from '../startup-script.ts';
import type { CreateRequest } from '../provider.ts';
import type { GcpShape } from './gcp-offers.ts';
import { instanceName, MANAGED_LABEL, portTag, SLOT_LABEL } from './machine.ts';

const IMAGE = 'projects/debian-cloud/global/images/family/debian-12';
const NETWORK = 'global/networks/default';

/**
 * What Compute Engine is asked for: a Spot machine that is deleted when it is taken away, so that no disk goes on
 * billing, with a public address and without a Google identity. Pure.
 */
export function instanceBody(
  { label, agentEnvironment, ports = [] }: CreateRequest,
  { zone, slot, machineType, diskGb }: GcpShape & { readonly zone: string; readonly slot: number },
): object {
  return {
    name: instanceName(label),
    description: label,
    machineType: `zones/${zone}/machineTypes/${machineType}`,
    labels: { [MANAGED_LABEL]: 'true', [SLOT_LABEL]: String(slot) },
    tags: { items: ports.map(portTag) },
    scheduling: {
      provisioningModel: 'SPOT',
      instanceTerminationAction: 'DELETE',
      onHostMaintenance: 'TERMINATE',
      automaticRestart: false,
    },
    disks: [
      {
        boot: true,
        autoDelete: true,
        initializeParams: {
          sourceImage: IMAGE,
          diskSizeGb: String(diskGb),
          diskType: `zones/${zone}/diskTypes/pd-balanced`,
        },
      },
    ],
    networkInterfaces: [{ network: NETWORK, accessConfigs: [{ name: 'External NAT', type: 'ONE_TO_ONE_NAT' }] }],
    metadata: { items: [{ key: 'startup-script', value: startupScript(agentEnvironment) }] },
  };
}

/** Lets the world reach a port of the machines that ask for it; what listens there asks for a token. Pure. */
export function firewallBody(port: number): object {
  return {
    name: portTag(port),
    network: NETWORK,
    direction: 'INGRESS',
    sourceRanges: ['0.0.0.0/0'],
    targetTags: [portTag(port)],
    allowed: [{ IPProtocol: 'tcp', ports: [String(port)] }],
  };
}

/** The same for the same order: Compute Engine carries out a repeated request once. A UUID, as it demands. Pure. */
export function requestIdOf(label: string, offerId: string): string {
  const hex = createHash('sha256').update(`${label}\n${offerId}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
