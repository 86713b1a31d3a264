import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { UploadShare } from '../storage/upload-share.ts';
import { SyncSender } from '../sync/sync-sender.ts';
import type { SyncState } from '../sync/sync-state.ts';
import type { WorkspaceWatcher } from '../workspace/watch.ts';

export interface StandbyLinkOptions {
  readonly workspaceDir: string;
  /** The cap on what leaves the machine; sync takes from it first. */
  readonly uploads?: UploadShare | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** A primary's continuous sync to the standby that its assignment names. */
export class StandbyLink {
  readonly #options: StandbyLinkOptions;
  #sender: SyncSender | null = null;
  #key = '';

  constructor(options: StandbyLinkOptions) {
    this.#options = options;
  }

  /** What the standby lacks; null while there is none that has had everything once: half a folder is no copy. */
  get state(): SyncState | null {
    const state = this.#sender?.state ?? null;
    return state === null || state.isInitial ? null : state;
  }

  /** Sends what the watcher hears of to the assignment's standby, in place of the one before; idempotent. */
  async follow({ sync, workspaceId }: Assignment, watcher: WorkspaceWatcher | null): Promise<void> {
    const key = sync?.role === 'send' ? JSON.stringify({ sync, workspaceId }) : '';
    if (key === this.#key) return;
    await this.end();
    if (sync?.role !== 'send' || watcher === null) return;
    const { workspaceDir: root, uploads, clock, random, log } = this.#options;
    const takeBytes = uploads && ((bytes: number, signal: AbortSignal) => uploads.first(bytes, signal));
    const { url, token, epoch } = sync;
    const changes = watcher.follow(() => this.#sender?.nudge());
    const syncKey = { workspaceId, epoch, token };
    this.#sender = new SyncSender({ root, url, key: syncKey, changes, takeBytes, clock, random, log });
    this.#sender.start();
    this.#key = key;
  }

  /** Sends nothing more, at once; {@link end} closes. */
  stop(): void {
    this.#sender?.stop();
  }

  async end(): Promise<void> {
    this.#key = '';
    await this.#sender?.[Symbol.asyncDispose]();
    this.#sender = null;
  }
}
