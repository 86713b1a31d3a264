import type { MachineAddress, MachineStatus, ProviderMachine } from '../provider.ts';
import type { VastInstance } from './vast-schemas.ts';

/** Where the daemon gave up on the image or the container: nothing will change that. */
const HOPELESS_MESSAGE = /OCI runtime create failed|manifest unknown|pull access denied|unauthorized|invalid reference/;

const SSH_PORT = 22;

/**
 * What decisions need of an instance. Pure.
 * @param stopWasAsked whether it was us who stopped it: Vast tells an outbid machine from a stopped one by nothing
 */
export function machineOf(instance: VastInstance, stopWasAsked: boolean): ProviderMachine {
  const ports = portsOf(instance);
  const ssh = ports.get(SSH_PORT) ?? null;
  return {
    ref: String(instance.id),
    label: instance.label ?? '',
    status: statusOf(instance, stopWasAsked),
    rawStatus: instance.actual_status ?? null,
    statusMessage: instance.status_msg?.trim() ?? null,
    probe: ssh,
    // The proxy is slow, but it is there when the host maps no port.
    ssh: ssh ?? proxyOf(instance),
    ports: new Map([...ports].filter(([inner]) => inner !== SSH_PORT)),
  };
}

/** A contract that was made a moment ago and is not visible yet. Pure. */
export function freshMachine(id: number, label: string): ProviderMachine {
  return {
    ref: String(id),
    label,
    status: 'pending',
    rawStatus: null,
    statusMessage: 'just ordered',
    probe: null,
    ssh: null,
    ports: new Map(),
  };
}

/**
 * The contract's three states say first what Vast wants of the machine: all `stopped` means that it was taken away,
 * while the container itself may still report `running` for seconds.
 */
function statusOf(instance: VastInstance, stopWasAsked: boolean): MachineStatus {
  const { intended_status: intended, cur_state: current, next_state: next, actual_status: actual } = instance;
  const isHopeless = HOPELESS_MESSAGE.test(instance.status_msg ?? '');
  if (intended === 'stopped' && (current ?? 'stopped') === 'stopped' && (next ?? 'stopped') === 'stopped') {
    if (stopWasAsked) return 'stopped';
    return isHopeless ? 'failed' : 'interrupted';
  }
  // A start that waits for its GPU.
  if (current === 'stopped' && next === 'running') return 'pending';
  switch (actual) {
    case 'running':
      return 'running';
    case 'created':
    case 'loading':
      return isHopeless ? 'failed' : 'pending';
    case 'exited':
    case 'frozen':
      return 'failed';
    case 'stopped':
      return stopWasAsked ? 'stopped' : 'interrupted';
    case 'offline':
    case 'unknown':
      return 'unreachable';
    case null:
    case undefined:
    case 'rebooting':
    case 'restarting':
    case 'recycling':
      return 'pending';
    default:
      // A word that is new to us: ports are there once it ran.
      return instance.ports === null || instance.ports === undefined ? 'pending' : 'running';
  }
}

/** Direct addresses by inner TCP port; the host's own address comes with a newline now and then. */
function portsOf(instance: VastInstance): ReadonlyMap<number, MachineAddress> {
  const host = instance.public_ipaddr?.trim() ?? '';
  if (host === '') return new Map();
  const entries = Object.entries(instance.ports ?? {}).flatMap(([name, bindings]) => {
    const [inner = '', protocol] = name.split('/');
    const outer = Number(bindings?.[0]?.HostPort);
    return protocol === 'tcp' && isPort(outer) && isPort(Number(inner))
      ? [[Number(inner), { host, port: outer }] as const]
      : [];
  });
  return new Map(entries);
}

function proxyOf({ ssh_host: host, ssh_port: port }: VastInstance): MachineAddress | null {
  return typeof host === 'string' && host !== '' && isPort(port ?? 0) ? { host, port: port ?? 0 } : null;
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port <= 65_535;
}
