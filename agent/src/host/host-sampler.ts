import { readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostSample } from '@dumont/shared/protocol/heartbeat.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';

export interface HostSamplerOptions {
  readonly workspaceDir: string;
  readonly clock: Clock;
  /** Where the kernel tells its figures, `/proc` when absent. */
  readonly procDir?: string;
}

/** What has been counted since the host's start, of which only differences tell something. */
interface Counts {
  readonly atMs: number;
  readonly busyTicks: number;
  readonly allTicks: number;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** Samples of the host, read from files that the kernel makes up in memory: well below a millisecond each. */
export class HostSampler {
  readonly #options: HostSamplerOptions;
  #last: Counts | null = null;

  constructor(options: HostSamplerOptions) {
    this.#options = options;
  }

  /**
   * CPU and memory, the disk that holds the workspace, network rates summed over all interfaces but loopback. Load and
   * rates are those since the call before; the first call has the load since the host's start, and no rates.
   * @throws {DumontError} IO when the host's figures cannot be read
   */
  async sample(): Promise<HostSample> {
    const [stat, meminfo, net, disk] = await Promise.all([
      this.#read('stat'),
      this.#read('meminfo'),
      this.#read('net/dev'),
      diskOf(this.#options.workspaceDir),
    ]);
    const now = { atMs: this.#options.clock.monotonicMs(), ...ticksOf(stat), ...trafficOf(net) };
    const last = this.#last;
    this.#last = now;
    const rate = (count: 'rxBytes' | 'txBytes') =>
      last === null || now.atMs <= last.atMs
        ? null
        : Math.max(0, ((now[count] - last[count]) * 1_000) / (now.atMs - last.atMs));
    const total = memoryField(meminfo, 'MemTotal');
    return {
      cpuPct: busyPct(last, now),
      memoryUsedBytes: Math.max(0, total - memoryField(meminfo, 'MemAvailable')),
      memoryTotalBytes: total,
      diskUsedBytes: disk?.usedBytes ?? null,
      diskTotalBytes: disk?.totalBytes ?? null,
      networkRxBytesPerSecond: rate('rxBytes'),
      networkTxBytesPerSecond: rate('txBytes'),
    };
  }

  async #read(name: string): Promise<string> {
    try {
      return await readFile(join(this.#options.procDir ?? '/proc', name), 'utf8');
    } catch (error) {
      throw toDumontError(error, 'IO', 'sampling the host');
    }
  }
}

/** Share of the time between two counts in which the processors worked. */
function busyPct(last: Counts | null, now: Counts): number {
  const all = now.allTicks - (last?.allTicks ?? 0);
  const busy = now.busyTicks - (last?.busyTicks ?? 0);
  return all <= 0 ? 0 : Math.min(100, Math.max(0, (100 * busy) / all));
}

/** `cpu  user nice system idle iowait irq softirq steal guest …`; user holds guest already. */
function ticksOf(stat: string): Pick<Counts, 'busyTicks' | 'allTicks'> {
  const ticks = (/^cpu +(.*)$/m.exec(stat)?.[1] ?? '').split(' ').slice(0, 8).map(Number);
  const allTicks = ticks.reduce((sum, count) => sum + count, 0);
  const [, , , idle = 0, waiting = 0] = ticks;
  if (!(allTicks > 0)) throw new DumontError('IO', 'sampling the host: /proc/stat tells of no processor');
  return { allTicks, busyTicks: allTicks - idle - waiting };
}

/** Of a line `eth0: <received bytes> and seven more, <sent bytes> …`. */
function trafficOf(net: string): Pick<Counts, 'rxBytes' | 'txBytes'> {
  const sum = { rxBytes: 0, txBytes: 0 };
  for (const [, name, counts = ''] of net.matchAll(/^ *([^:\s]+): *(.*)$/gm)) {
    if (name === 'lo') continue;
    const fields = counts.split(/ +/).map(Number);
    sum.rxBytes += fields[0] ?? 0;
    sum.txBytes += fields[8] ?? 0;
  }
  return sum;
}

/** In bytes; `<name>:   <KiB> kB`. */
function memoryField(meminfo: string, name: string): number {
  const kib = new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(meminfo)?.[1];
  if (kib === undefined) throw new DumontError('IO', `sampling the host: /proc/meminfo does not tell ${name}`);
  return Number(kib) * 1_024;
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
