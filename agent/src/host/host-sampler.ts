import { statfs } from 'node:fs/promises';
import type { HostSample } from '@dumont/shared/protocol/heartbeat.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import si from 'systeminformation';

/**
 * One sample of the host: CPU and memory, the disk that holds the workspace, network rates summed over all interfaces
 * but loopback. Rates are null on the first call. The first call takes about half a second, later ones a millisecond,
 * so it must not stand between the start of the agent and its first heartbeat.
 * @throws {DumontError} IO when the host's figures cannot be read
 */
export async function sampleHost(workspaceDir: string): Promise<HostSample> {
  try {
    const [load, memory, interfaces, disk] = await Promise.all([
      si.currentLoad(),
      si.mem(),
      si.networkStats('*'),
      diskOf(workspaceDir),
    ]);
    const external = interfaces.filter((stats) => stats.iface !== 'lo');
    return {
      cpuPct: Math.min(100, Math.max(0, load.currentLoad)),
      memoryUsedBytes: memory.active,
      memoryTotalBytes: memory.total,
      diskUsedBytes: disk?.usedBytes ?? null,
      diskTotalBytes: disk?.totalBytes ?? null,
      networkRxBytesPerSecond: sumOrNull(external.map((stats) => stats.rx_sec)),
      networkTxBytesPerSecond: sumOrNull(external.map((stats) => stats.tx_sec)),
    };
  } catch (error) {
    throw toDumontError(error, 'IO', 'sampling the host');
  }
}

/** Null when the folder does not exist yet: a machine about to be restored. */
async function diskOf(folder: string): Promise<{ readonly usedBytes: number; readonly totalBytes: number } | null> {
  try {
    const stats = await statfs(folder);
    return { usedBytes: (stats.blocks - stats.bfree) * stats.bsize, totalBytes: stats.blocks * stats.bsize };
  } catch {
    return null;
  }
}

/** The library says null (and types number) until it has two readings. */
function sumOrNull(values: readonly (number | null)[]): number | null {
  let sum = 0;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) return null;
    sum += Math.max(0, value);
  }
  return values.length === 0 ? null : sum;
}
