import type { MachineHistoryView } from '@dumont/shared/api/machine-history.ts';
import { HISTORY_MS, standingOfHost } from '@dumont/shared/model/host-standing.ts';
import { listHostRecords, pardonHost, type HostRecord } from '../../store/machine-boots.ts';
import type { Handlers } from '../handler.ts';
import type { ApiServices } from '../services.ts';

export function machineHistoryHandlers({
  db,
  clock,
}: ApiServices): Pick<Handlers, 'listMachineHistory' | 'forgetMachineHistory'> {
  return {
    listMachineHistory: async ({ query: { machine: machineId, limit } }) => {
      const nowMs = clock.nowMs();
      const records = await listHostRecords(db, { sinceMs: nowMs - HISTORY_MS, machineId, limit });
      return { items: records.map((record) => machineHistoryView(record, nowMs)) };
    },
    forgetMachineHistory: async ({ body: { machine: machineId, provider } }) => {
      return { forgotten: await pardonHost(db, { machineId, provider }, clock.nowMs()) };
    },
  };
}

function machineHistoryView(record: HostRecord, nowMs: number): MachineHistoryView {
  const { runningMs: bootMs, lastFailedAtMs: _lastFailedAtMs, ...rest } = record;
  return { ...rest, bootMs, ...standingOfHost(record, nowMs) };
}
