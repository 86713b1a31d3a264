import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { loadIgnoreRules } from '@dumont/agent/workspace/ignore.ts';
import { WorkspaceWatcher } from '@dumont/agent/workspace/watch.ts';
import { SyncReceiver } from '@dumont/agent/sync/sync-receiver.ts';
import { SyncSender } from '@dumont/agent/sync/sync-sender.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { eventually } from './eventually.ts';
import { makeTempFolder } from './temp-folder.ts';
import { differences, seeTree } from './tree.ts';

/** A primary's folder and a standby's in one temporary folder, with real watching, sockets and files between them. */
export interface SyncPair extends AsyncDisposable {
  readonly primary: string;
  readonly standby: string;
  readonly stateDir: string;
  readonly key: { readonly workspaceId: string; readonly epoch: number; readonly token: string };
  readonly receiver: SyncReceiver;
  readonly sender: SyncSender;
  /** Starts the standby's end, on the port it had before. */
  startReceiver(): Promise<void>;
  stopReceiver(): Promise<void>;
  /** Starts the sender. @param url of the standby, when it is not reached directly */
  startSender(url?: string): Promise<void>;
  stopSender(): Promise<void>;
  /** Resolves when the standby acknowledged everything and both trees are equal. */
  settled(withinMs?: number): Promise<void>;
}

const log = createLogger('sync-test', (process.env['DUMONT_TEST_LOG'] as 'info' | undefined) ?? 'silent');

export async function makeSyncPair(): Promise<SyncPair> {
  const temp = await makeTempFolder();
  const primary = join(temp.path, 'primary');
  const standby = join(temp.path, 'standby');
  const stateDir = join(temp.path, 'state');
  await mkdir(primary);
  await mkdir(standby);
  const key = { workspaceId: newId('workspace'), epoch: 3, token: 'a token for tests 0001' };
  const parts = { clock: systemClock, random: systemRandom, log };
  let receiver: SyncReceiver | null = null;
  let sender: SyncSender | null = null;
  let watcher: WorkspaceWatcher | null = null;
  let port = 0;
  const pair: SyncPair = {
    primary,
    standby,
    stateDir,
    key,
    get receiver() {
      if (receiver === null) throw new Error('the receiver is stopped');
      return receiver;
    },
    get sender() {
      if (sender === null) throw new Error('the sender is stopped');
      return sender;
    },
    async startReceiver() {
      const options = { root: standby, stateDir, key, host: '127.0.0.1', port, ...parts };
      receiver = await SyncReceiver.listen(options, AbortSignal.any([]));
      port = receiver.port;
    },
    async stopReceiver() {
      await receiver?.[Symbol.asyncDispose]();
      receiver = null;
    },
    async startSender(url = `wss://127.0.0.1:${port}`) {
      const ignore = await loadIgnoreRules(primary);
      watcher = new WorkspaceWatcher({ root: primary, ignore, ...parts, onFirstDirty: () => {} });
      await watcher.start();
      const changes = watcher.follow(() => sender?.nudge());
      sender = new SyncSender({ root: primary, url, key, changes, ...parts });
      sender.start();
    },
    async stopSender() {
      await sender?.[Symbol.asyncDispose]();
      await watcher?.[Symbol.asyncDispose]();
      sender = null;
    },
    async settled(withinMs = 20_000) {
      let last: readonly string[] = [];
      await eventually(
        'the trees are equal',
        async () => {
          const state = pair.sender.state;
          if (state.pendingMs > 0 || state.isInitial) return false;
          // A file may go while the tree is looked at: a half-made one of ours, as when a large file is verified.
          const seen = await Promise.all([seeTree(primary), seeTree(standby)]).catch(() => null);
          if (seen === null) return false;
          last = differences(...seen);
          return last.length === 0;
        },
        withinMs,
      ).catch((error: unknown) => {
        const state = sender === null ? null : JSON.stringify(sender.state);
        throw new Error(`${String(error)}\n${last.slice(0, 20).join('\n')}\n${state}`);
      });
    },
    async [Symbol.asyncDispose]() {
      await pair.stopSender();
      await pair.stopReceiver();
      await temp[Symbol.asyncDispose]();
    },
  };
  return pair;
}
