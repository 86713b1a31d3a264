import type { EventView } from '@dumont/shared/api/views.ts';
import { formatMicroUsd } from '@dumont/shared/model/money.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';

/** One event in a sentence for somebody who watches; undefined for those that would only be noise. Pure. */
export function narrate(event: EventView): string | undefined {
  const { data } = event;
  switch (event.type) {
    case 'machine.requested':
      return `asking the market for ${text(data['machineId'])}`;
    case 'machine.rented':
      return 'a machine was rented and is booting';
    case 'machine.refused':
      return `the market refused: ${text(data['reason'])}`;
    case 'instance.ready':
      return 'a machine is up: its agent said hello';
    case 'instance.suspect':
      return `no heartbeat for ${duration(data['silenceMs'])}: suspicious, asking for a second opinion`;
    case 'instance.lost':
      return 'a machine is lost';
    case 'instance.alive':
      return 'the machine is back: false alarm';
    case 'failover.started':
      return data['trigger'] === 'operator'
        ? 'moving the workspace to another machine'
        : `loss CONFIRMED after ${duration(data['detectMs'])} (${text(data['reason'])}): failover begins`;
    case 'workspace.fenced':
      return `the old machine is fenced: epoch ${text(data['epoch'])}`;
    case 'snapshot.committed':
      return `snapshot #${text(data['seq'])}: ${bytes(data['newBytes'])} new of ${bytes(data['totalBytes'])}, in ${duration(data['createMs'])}`;
    case 'workload.failed':
      return `the workload did not come up: ${text(data['message'])}`;
    case 'machine.gone':
      return `a machine is gone, proven twice; it cost ${formatMicroUsd(Number(data['costMicroUsd'] ?? 0))}`;
    case 'operation.step':
      return narrateStep(text(data['kind']), text(data['from']), text(data['event']));
    default:
      return undefined;
  }
}

function narrateStep(kind: string, step: string, outcome: string): string | undefined {
  if (kind !== 'failover' && kind !== 'provision') return undefined;
  switch (outcome) {
    case 'restored':
      return 'the workspace is restored, every byte verified';
    case 'workloadChecked':
      return 'the workload is running';
    case 'switched':
      return 'users are pointed at the machine';
    case 'attemptFailed':
      return `${step} did not work out, trying another way`;
    default:
      return undefined;
  }
}

function text(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '?';
}

function duration(value: unknown): string {
  return typeof value === 'number' ? formatDuration(value) : '?';
}

function bytes(value: unknown): string {
  return typeof value === 'number' ? formatBytes(value) : '?';
}
