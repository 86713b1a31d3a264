import type { EventView } from '@dumont/shared/api/views.ts';
import { formatMicroUsd } from '@dumont/shared/model/money.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';

/** While nothing else happens, one snapshot in this time stands for all: a terminal holds few lines. */
const SNAPSHOT_LINE_EVERY_MS = 10_000;

/** Tells events in their order: calls machines by the names of their hosts, and leaves out what only repeats. */
export class Narrator {
  /** Host of each machine asked for; a demonstration rents a few. */
  readonly #hosts = new Map<string, string>();
  /** When the last line was told, if that was a snapshot. */
  #lastSnapshotAtMs: number | undefined;

  /** The event's sentence, undefined when there is nothing to tell. */
  tell(event: EventView): string | undefined {
    const { instanceId, atMs, type, data } = event;
    if (instanceId !== null && type === 'machine.requested') this.#hosts.set(instanceId, text(data['machineId']));
    const line = narrate(event, instanceId === null ? undefined : this.#hosts.get(instanceId));
    if (line === undefined) return undefined;
    const isSnapshot = type === 'snapshot.committed';
    const repeats = isSnapshot && atMs - (this.#lastSnapshotAtMs ?? -Infinity) < SNAPSHOT_LINE_EVERY_MS;
    if (repeats) return undefined;
    this.#lastSnapshotAtMs = isSnapshot ? atMs : undefined;
    return line;
  }
}

/**
 * One event in a sentence for somebody who watches; undefined for those that would only be noise. Pure.
 * @param host what to call the event's machine
 */
export function narrate(event: EventView, host = 'the machine'): string | undefined {
  const { data } = event;
  switch (event.type) {
    case 'instance.ready':
      return `${host} is up: its agent said hello`;
    case 'instance.suspect':
      return `${host} is silent for ${duration(data['silenceMs'])}: SUSPECT, asking for a second opinion`;
    case 'instance.lost':
      return `${host} is lost`;
    case 'workload.soft-error':
      return `beside the workload, ${text(data['source'])} fails: ${text(data['message'])}`;
    case 'agent.stopping':
      return `the agent on ${host} was told to stop`;
    case 'instance.last-words':
      return `${host} saved ${bytes(data['safeBytes'])} before the end, and not ${data['unsafeBytes'] === null ? 'all of it' : bytes(data['unsafeBytes'])}`;
    case 'instance.preempted':
      return `${host} is TAKEN BACK by its provider in ${duration(data['withinMs'])}`;
    case 'instance.alive':
      return `${host} is back: false alarm`;
    case 'failover.started':
      return data['trigger'] === 'detector'
        ? `loss CONFIRMED after ${duration(data['detectMs'])}, failover begins\n(${text(data['reason'])})`
        : 'moving the workspace to another machine';
    case 'workspace.fenced':
      return `${host} may act for the workspace no more: FENCED by epoch ${text(data['epoch'])}`;
    case 'snapshot.committed':
      return `snapshot #${text(data['seq'])}: ${bytes(data['newBytes'])} new of ${bytes(data['totalBytes'])}, in ${duration(data['createMs'])}`;
    case 'standby.named':
      return `${host} is the STANDBY: it follows every change`;
    case 'standby.dropped':
      return `${host} is the standby no more: ${text(data['reason'])}`;
    case 'standby.not-used':
      return `the standby cannot take over: ${text(data['reason'])}`;
    case 'workspace.on-standby':
      return `users work on ${host}, the STANDBY, from now on: nothing is lost but the last ${duration(data['behindMs'])}`;
    case 'workspace.back':
      return data['handedOver'] === true
        ? `users are BACK on a GPU, ${host}: they were on the standby for ${duration(data['servedMs'])}, the pause was ${duration(data['pauseMs'])}`
        : `the standby was lost as well: ${host} goes on from the last snapshot`;
    case 'branch.harvested':
      return `late files of ${host} are kept as a branch: ${bytes(data['changedBytes'])}`;
    case 'branch.not-harvested':
      return data['outcome'] === 'failed'
        ? `late files of ${host} could not be kept: ${text(data['reason'])}`
        : `${host} held nothing that is not in a snapshot`;
    case 'branch.merged':
      return 'a branch was merged into the workspace';
    case 'workload.failed':
      return `the workload did not come up: ${text(data['message'])}`;
    case 'enrolment.refused':
      return `somebody tried a token that admits nobody (${text(data['reason'])}), from ${text(data['address'])}`;
    case 'credential.refused':
      return `somebody came with a credential of ${host} that was replaced`;
    case 'storage.grant-failed':
      return `${host} gets no keys to the object store: ${text(data['message'])}`;
    case 'storage.grant-recovered':
      return `${host} has keys to the object store again`;
    case 'agent.upgraded':
      return `${host} runs version ${text(data['to'])} of the agent`;
    case 'agent.upgrade-failed':
      return `${host} stays with version ${text(data['from'])} of the agent: ${text(data['reason'])}`;
    case 'gateway.answered':
      return `${host} answered the first user through the gateway`;
    case 'machine.gone':
      return `${host} is gone, proven twice; it cost ${formatMicroUsd(Number(data['costMicroUsd'] ?? 0))}`;
    case 'operation.step':
      return narrateStep(text(data['kind']), text(data['from']), text(data['event']));
    default:
      return narrateRental(event, host);
  }
}

/** How a machine is got. */
function narrateRental({ type, data }: EventView, host: string): string | undefined {
  switch (type) {
    case 'machine.requested':
      return `ordering ${text(data['machineId'])} from the market`;
    case 'machine.rented':
      return `${host} is rented and boots`;
    case 'machine.refused':
      return `the market refused: ${text(data['reason'])}`;
    case 'machine.ssh-install':
      return `the agent is installed on ${host} over SSH: no start script did it in time`;
    case 'machine.host-key-changed':
      return `${host} shows ANOTHER host key than at first: it is not trusted`;
    case 'placement.widened':
      return 'nobody offers what is preferred: the search goes on without that';
    default:
      return undefined;
  }
}

function narrateStep(kind: string, step: string, outcome: string): string | undefined {
  if (kind !== 'failover' && kind !== 'provision') return undefined;
  switch (outcome) {
    case 'restored':
      return 'the workspace is restored, every byte checked';
    case 'headMoved':
      return 'a newer snapshot came in meanwhile: restoring the difference';
    case 'workloadChecked':
      return 'the workload runs';
    case 'switched':
      return 'users are pointed at it';
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
