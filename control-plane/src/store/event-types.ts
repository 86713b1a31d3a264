/** Every type of event in the history, and what is in its data: control-plane/docs/EVENTS.md. Add freely, never rename. */
export const EVENT_TYPES = [
  'provision.started',
  'failover.started',
  'release.started',
  'operation.step',
  'operation.finished',
  'machine.requested',
  'machine.rented',
  'machine.refused',
  'machine.releasing',
  'machine.gone',
  'instance.ready',
  'instance.suspect',
  'instance.lost',
  'instance.alive',
  'workspace.fenced',
  'snapshot.committed',
  'restore.progress',
  'workload.failed',
  'gateway.moved',
  'gateway.answered',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];
