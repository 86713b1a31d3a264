import { Pulse } from '@dumont/agent/link/pulse.ts';
import { SyncSender } from '@dumont/agent/sync/sync-sender.ts';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import { WorkspaceWatcher } from '@dumont/agent/workspace/watch.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock as clock } from '@dumont/shared/util/clock.ts';
import { systemRandom as random } from '@dumont/shared/util/random.ts';
import type { SenderBeat, SenderChildOptions } from './sync-sender-process.ts';

/** A primary's end of sync as a process of its own: options come as JSON, what a heartbeat would say goes out by IPC. */
const { beatMs, ...options } = JSON.parse(process.argv[2] ?? '{}') as SenderChildOptions;
const log = createLogger('sync-sender', 'error');
const ignore = await loadIgnoreRules(options.root);
const watcher = new WorkspaceWatcher({ root: options.root, ignore, onFirstDirty: () => {}, clock, log });
await watcher.start();
const changes = watcher.follow(() => sender.nudge());
const sender = new SyncSender({ ...options, changes, clock, random, log });
const pulse = new Pulse({
  clock,
  intervalMs: beatMs,
  onPulse: (ageMs, beganMs) => {
    const { pendingMs, pendingBytes, watermark, isInitial, sentBytes } = sender.state;
    const rssBytes = process.resourceUsage().maxRSS * 1024;
    const beat: SenderBeat = {
      asOfWallMs: clock.nowMs() - (clock.monotonicMs() - beganMs),
      behindMs: ageMs(pendingMs),
      behindBytes: pendingBytes,
      watermark,
      isInitial,
      sentBytes,
      rssBytes,
    };
    process.send?.(beat);
  },
});
process.on('disconnect', () => {
  pulse[Symbol.dispose]();
  process.kill(process.pid, 'SIGKILL');
});
sender.start();
