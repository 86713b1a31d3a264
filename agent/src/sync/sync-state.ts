import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { DirtyFollower } from '../workspace/watch.ts';
import type { SyncKey } from './secure-socket.ts';
import type { TakeBytes } from './sender-session.ts';

/** How far the standby is behind. */
export interface SyncState {
  /**
   * Size of the files with changes not yet acknowledged, and of what was appended to others: no less than what would be lost
   * now. What a scan of the whole folder is still to find does not count. 0 only when the standby has everything.
   */
  readonly pendingBytes: number;
  /** Age of the oldest change not yet acknowledged, since the watcher heard of it, ms; 0 when the standby has everything. */
  readonly pendingMs: number;
  /** The last batch the standby acknowledged, with the hash of both trees after it; null before the first. */
  readonly watermark: { readonly seq: number; readonly hash: string } | null;
  /** The standby has never had all of the folder. */
  readonly isInitial: boolean;
  readonly isConnected: boolean;
  /** Sent in all sessions so far. */
  readonly sentBytes: number;
}

export interface SyncSenderOptions {
  readonly root: string;
  readonly url: string;
  readonly key: SyncKey;
  /** Of the workspace's watcher; it rings the sender's `nudge`. The sender disposes it. */
  readonly changes: DirtyFollower;
  readonly takeBytes?: TakeBytes | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}
