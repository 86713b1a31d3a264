import type { CreateRequest } from '../provider.ts';
import { startupScript } from '../startup-script.ts';
import { machineName } from './machine.ts';
import type { TensorDockShape } from './tensordock-offers.ts';
import type { HostNode } from './wire.ts';

const IMAGE = 'ubuntu2404';
const SSH_PORT = 22;
/** In memory: the token does not stay on the disk. */
const SCRIPT_PATH = '/run/dumont-startup.sh';

interface PortForward {
  readonly internal_port: number;
  readonly external_port: number;
}

/** SSH and the ports asked for, each on a port of the host that is free; null when the host has too few. Pure. */
export function forwardsFor(node: HostNode, ports: readonly number[]): readonly PortForward[] | null {
  const wanted = [SSH_PORT, ...ports];
  const free = node.available_resources.available_ports;
  if (free.length < wanted.length) return null;
  return wanted.map((internal_port, index) => ({ internal_port, external_port: free[index] ?? 0 }));
}

/** What TensorDock is asked for: a machine that runs the agent's installer at its first boot. Pure. */
export function orderBody(
  { label, offer, agentEnvironment }: CreateRequest,
  parts: {
    readonly nodeId: string;
    readonly v0Name: string;
    readonly shape: TensorDockShape;
    readonly forwards: readonly PortForward[];
    readonly sshPublicKey: string;
  },
): object {
  const { vcpuCount, ramGb, storageGb } = parts.shape;
  const type = 'virtualmachine';
  return {
    data: {
      type,
      attributes: {
        name: machineName(label, offer.offerId),
        type,
        image: IMAGE,
        resources: {
          vcpu_count: vcpuCount,
          ram_gb: ramGb,
          storage_gb: storageGb,
          gpus: { [parts.v0Name]: { count: 1 } },
        },
        hostnode_id: parts.nodeId,
        useDedicatedIp: false,
        port_forwards: parts.forwards,
        ssh_key: parts.sshPublicKey,
        cloud_init: {
          package_update: false,
          write_files: [{ path: SCRIPT_PATH, content: startupScript(agentEnvironment), permissions: '0700' }],
          runcmd: [`sh ${SCRIPT_PATH}; rm -f ${SCRIPT_PATH}`],
        },
      },
    },
  };
}
