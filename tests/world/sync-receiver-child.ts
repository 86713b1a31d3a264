import { SyncReceiver, type SyncReceiverOptions } from '@dumont/agent/sync/sync-receiver.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';

/** A standby's end of sync as a process of its own: options come as JSON, the port goes out by IPC. */
const given = JSON.parse(process.argv[2] ?? '{}') as Omit<SyncReceiverOptions, 'clock' | 'log'>;
const log = createLogger('sync-receiver', 'warn');
const receiver = await SyncReceiver.listen({ ...given, clock: systemClock, log }, AbortSignal.any([]));
process.send?.({ port: receiver.port });
process.on('message', (asked) => {
  if (asked === 'promote') receiver.hearEpoch(given.key.epoch + 1);
  process.send?.({ rssBytes: process.resourceUsage().maxRSS * 1024, watermark: receiver.watermark });
});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
