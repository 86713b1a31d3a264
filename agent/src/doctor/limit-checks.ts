import { watch } from 'node:fs';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { formatBytes } from '@dumont/shared/util/units.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import type { Situation } from './situation.ts';

/** Other programs of this user take watches as well. */
const WATCH_SHARE = 0.8;
/** Packs, sockets, workers and the files being read at a time. */
const LOW_OPEN_FILES = 4_096;
const LEAST_OPEN_FILES = 256;
const LOW_MEMORY_BYTES = 1024 * 2 ** 20;
const LEAST_MEMORY_BYTES = 256 * 2 ** 20;
const LOW_AVAILABLE_BYTES = 256 * 2 ** 20;

export interface WatchFacts {
  readonly folderCount: number;
  /** The folders counted are not all. */
  readonly isAtLeast: boolean;
  /** Null where the system does not tell. */
  readonly maxWatches: number | null;
  /** What came of watching one folder: the error's code, null when it worked. */
  readonly trial: string | null;
  readonly isContainer: boolean;
}

export const LIMIT_CHECKS: readonly Check[] = [
  { id: 'inotify', title: 'File watching', run: async (situation) => judgeWatching(await readWatchFacts(situation)) },
  { id: 'open-files', title: 'Open files', run: checkOpenFiles },
  { id: 'memory', title: 'Memory', run: checkMemory },
];

/** Pure. Too few watches are no failure: the agent looks at the whole tree every ten seconds then. */
export function judgeWatching(facts: WatchFacts): Finding {
  const { folderCount, isAtLeast, maxWatches, trial, isContainer } = facts;
  const folders = `${folderCount}${isAtLeast ? ' or more' : ''} folders`;
  const instead = 'the workspace is rescanned every 10 s instead';
  const sysctl = (name: string, value: number) =>
    isContainer
      ? `A container cannot raise ${name}: ask the owner of the host, or leave large folders out by .dumontignore.`
      : `sysctl -w ${name}=${value}, and the same line in /etc/sysctl.d/60-dumont.conf.`;
  if (trial === 'ENOSPC') {
    const limit = maxWatches === null ? '' : ` (${maxWatches})`;
    return warn(`all inotify watches${limit} are taken: ${instead}`, sysctl('fs.inotify.max_user_watches', 1_048_576));
  }
  if (trial === 'EMFILE') {
    return warn(`all inotify instances are taken: ${instead}`, sysctl('fs.inotify.max_user_instances', 1_024));
  }
  if (trial !== null)
    return warn(`folders cannot be watched (${trial}): ${instead}`, 'Use a local disk for the workspace.');
  if (maxWatches === null) return ok(`${folders}; the limit is unknown, watching works`);
  if (folderCount <= maxWatches * WATCH_SHARE) return ok(`${folders} of ${maxWatches} watches`);
  const needed = 2 ** Math.ceil(Math.log2(folderCount * 2));
  const becomes = folderCount > maxWatches ? instead : 'there may be too few';
  return warn(`${folders}, ${maxWatches} watches: ${becomes}`, sysctl('fs.inotify.max_user_watches', needed));
}

async function readWatchFacts({ tour, workspaceDir, stateDir, container }: Situation): Promise<WatchFacts> {
  const { folderCount, isComplete, problem } = await tour();
  const limits = await Promise.all(
    ['/proc/sys/fs/inotify/max_user_watches', '/proc/sys/user/max_inotify_watches'].map(numberIn),
  );
  const known = limits.filter((limit) => limit !== null);
  const trial = (await tryWatching(workspaceDir)) ?? null;
  return {
    folderCount,
    isAtLeast: !isComplete && problem === null,
    maxWatches: known.length === 0 ? null : Math.min(...known),
    trial: trial === 'ENOENT' ? await tryWatching(stateDir).then((code) => (code === 'ENOENT' ? null : code)) : trial,
    isContainer: container !== null,
  };
}

async function tryWatching(folder: string): Promise<string | null> {
  try {
    const watcher = watch(folder);
    const closed = once(watcher, 'close');
    watcher.on('error', () => {});
    watcher.close();
    await closed;
    return null;
  } catch (error) {
    return systemErrorCode(error) ?? String(error);
  }
}

async function numberIn(path: string): Promise<number | null> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return /^\d+\s*$/.test(text) ? Number(text) : null;
}

async function checkOpenFiles({ container }: Situation): Promise<Finding> {
  const text = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(text)?.[1];
  if (soft === undefined) return skip('the system does not tell');
  if (soft === 'unlimited' || Number(soft) >= LOW_OPEN_FILES) return ok(`${soft} allowed`);
  const raise = container === null ? 'Raise it: LimitNOFILE=65536 in the unit, or' : 'Start the container with';
  const fix = container === null ? `${raise} ulimit -n 65536.` : `${raise} --ulimit nofile=65536.`;
  return Number(soft) < LEAST_OPEN_FILES ? fail(`only ${soft} allowed`, fix) : warn(`only ${soft} allowed`, fix);
}

async function checkMemory(): Promise<Finding> {
  const constrained = process.constrainedMemory();
  const total = totalmem();
  const isLimited = constrained > 0 && constrained < total;
  const limitBytes = isLimited ? constrained : total;
  // 0 where the system does not tell.
  const availableBytes = process.availableMemory() || limitBytes;
  const whose = isLimited ? 'by the limit of the container (cgroup)' : 'on the machine';
  const detail = `${formatBytes(availableBytes)} available of ${formatBytes(limitBytes)} ${whose}`;
  const fix = 'Give it more memory, or end what else takes it: the kernel kills the largest process when it runs out.';
  if (limitBytes < LEAST_MEMORY_BYTES) return fail(detail, fix);
  if (limitBytes < LOW_MEMORY_BYTES || availableBytes < LOW_AVAILABLE_BYTES) return warn(detail, fix);
  return ok(detail);
}
