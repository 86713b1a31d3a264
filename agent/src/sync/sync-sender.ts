import { setImmediate as letOthersRun } from 'node:timers/promises';
import { backoffMs, type BackoffPolicy } from '@dumont/shared/util/backoff.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { ChunkCoder } from '../snapshot/planes/chunk-coder.ts';
import { sizeAt, sizeOfAll } from '../workspace/dirty-size.ts';
import { loadIgnoreRules } from '../workspace/ignore.ts';
import { scanWorkspace } from '../workspace/scan.ts';
import { adoptTree } from './adopt-tree.ts';
import { ChangePlanner } from './change-planner.ts';
import { ContentReader } from './file-content.ts';
import { LargeFile } from './large-file.ts';
import { LaterPaths } from './later-paths.ts';
import { OutgoingBatch } from './outgoing-batch.ts';
import { SenderSession } from './sender-session.ts';
import { SentBatches } from './sent-batches.ts';
import type { SyncSenderOptions, SyncState } from './sync-state.ts';
import { SyncTree } from './sync-tree.ts';
import { WorkQueue } from './work-queue.ts';

/** Writes of one save come in a burst: they travel together. */
const COALESCE_MS = 20;
/** A file that changed while it was read is looked at again after this. */
const AGAIN_MS = 25;
/** A file of which only the end was read is read as a whole once it was left alone for so long. */
const VERIFY_MS = 2_000;
const RECONNECT: BackoffPolicy = { baseMs: 100, capMs: 5_000 };
/** Comparisons in a row that did not lead to equal trees, before the standby has to read its folder anew. */
const MAX_MISMATCHES = 2;
const IDLE_MS = 60_000;
/** Changed paths kept one by one while there is no standby; above it they become a scan of the folder. */
const MAX_AWAY_PATHS = 50_000;

/** Paths that are dealt with together. */
interface Round {
  readonly looked: ReadonlySet<string>;
  readonly sinceMs: number;
}

/**
 * The primary's end of continuous sync: makes the standby's folder equal to this one and keeps it so, through any number of
 * cuts, until it is disposed or refused because its epoch is over.
 */
export class SyncSender implements AsyncDisposable {
  readonly #options: SyncSenderOptions;
  readonly #tree = new SyncTree();
  readonly #queue: WorkQueue;
  readonly #sent = new SentBatches(this.#tree);
  readonly #coder = new ChunkCoder({ secrets: null, effort: 'fast' });
  readonly #largeReader: ContentReader;
  readonly #bell = new Bell();
  readonly #stopping = new AbortController();
  /** Looked at again when they are due. */
  readonly #later = new LaterPaths();
  readonly #staged = new Set<string>();
  #planner: ChangePlanner | null = null;
  #session: SenderSession | null = null;
  #large: { readonly file: LargeFile; readonly sinceMs: number } | null = null;
  #running: Promise<void> = Promise.resolve();
  #stageCount = 0;
  #mismatches = 0;
  #isInitial = true;
  #wasScanned = false;
  #takenSinceMs = Infinity;
  #takenBytes = 0;
  #sentBytesBefore = 0;

  constructor(options: SyncSenderOptions) {
    this.#options = options;
    this.#queue = new WorkQueue((path) => sizeAt(options.root, path));
    this.#largeReader = new ContentReader(options.clock);
  }

  /** Call once. */
  start(): void {
    this.#running = this.#run();
  }

  /** Something changed. */
  nudge(): void {
    if (this.#session === null) this.#queue.takeIn(this.#options.changes, MAX_AWAY_PATHS);
    this.#bell.ring();
  }

  get state(): SyncState {
    const { changes, clock, root } = this.#options;
    const sinceMs = Math.min(
      changes.sinceMonotonicMs ?? Infinity,
      this.#takenSinceMs,
      this.#queue.sinceMs,
      this.#large?.sinceMs ?? Infinity,
      this.#sent.sinceMs,
      this.#later.sinceMs,
    );
    const isBehind = sinceMs !== Infinity;
    const bytes = () =>
      sizeOfAll(root, changes.paths) +
      this.#takenBytes +
      this.#queue.bytes +
      (this.#large?.file.sizeBytes ?? 0) +
      this.#sent.bytes +
      this.#later.bytes;
    return {
      pendingBytes: isBehind ? Math.max(1, bytes()) : 0,
      pendingMs: isBehind ? Math.max(0, clock.monotonicMs() - sinceMs) : 0,
      watermark: this.#sent.watermark,
      isInitial: this.#isInitial,
      isConnected: this.#sent.isConnected,
      sentBytes: this.#sentBytesBefore + (this.#session?.flow.sentBytes ?? 0),
    };
  }

  /** Sends nothing from here on; disposing waits for what runs. Idempotent. */
  stop(): void {
    this.#stopping.abort(new DumontError('ABORTED', 'sync was stopped'));
    this.#bell.ring();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await this.#running;
    this.#options.changes[Symbol.dispose]();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { clock, random, log } = this.#options;
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      const begunMs = clock.monotonicMs();
      try {
        await this.#runSession();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        const failure = toDumontError(error);
        if (clock.monotonicMs() - begunMs > RECONNECT.capMs) attempt = 0;
        const retryInMs = Math.round(backoffMs(attempt, RECONNECT, random));
        log.warn({ event: 'sync-lost', err: failure, retryInMs }, 'the connection to the standby was lost');
        if (isDumontError(failure, 'STALE_EPOCH')) return;
        await clock.sleep(retryInMs, this.#stopping.signal).catch(() => {});
      }
    }
  }

  async #runSession(): Promise<void> {
    const { url, key, clock, takeBytes, log } = this.#options;
    const session = new SenderSession(
      { url, key, clock, takeBytes: takeBytes ?? (async () => {}), onAck: ({ seq, hash }) => this.#onAck(seq, hash) },
      this.#stopping.signal,
    );
    this.#session = session;
    try {
      const welcome = await session.greet();
      this.#staged.clear();
      for (const id of welcome.staged) this.#staged.add(id);
      await this.#agree(session, welcome);
      log.info({ event: 'sync-connected', seq: welcome.seq, isInitial: this.#isInitial }, 'connected to the standby');
      this.#sent.isConnected = true;
      this.#planner ??= await this.#makePlanner();
      if (!this.#wasScanned) await this.#scan(clock.monotonicMs());
      await this.#work(session, this.#planner);
    } finally {
      session[Symbol.dispose]();
      this.#sentBytesBefore += session.flow.sentBytes;
      this.#session = null;
      this.#sent.isConnected = false;
      this.#putLargeBack();
      this.#sent.endSession();
    }
  }

  async #makePlanner(): Promise<ChangePlanner> {
    const { root, clock } = this.#options;
    return new ChangePlanner({ root, tree: this.#tree, rules: await loadIgnoreRules(root), clock });
  }

  /** Brings our picture of the standby's tree and its own together. */
  async #agree(session: SenderSession, welcome: { readonly seq: number; readonly hash: string }): Promise<void> {
    const { clock, log } = this.#options;
    for (const { path, sinceMs } of this.#sent.resume(welcome)) this.#queue.addUrgent(path, sinceMs);
    if (this.#tree.hash() === welcome.hash) {
      this.#mismatches = 0;
      return;
    }
    this.#mismatches += 1;
    const mayRescan = this.#mismatches > MAX_MISMATCHES;
    if (mayRescan) log.warn({ event: 'sync-rescan' }, 'the trees stay different: the standby reads its folder anew');
    const differing = await adoptTree(session, this.#tree, mayRescan);
    log.info({ event: 'sync-compared', paths: differing.length }, 'took over what the standby has');
    // What a scan is still to come for need not be named.
    if (this.#wasScanned) for (const path of differing) this.#queue.addUrgent(path, clock.monotonicMs());
    this.#sent.agreed(welcome.seq, this.#tree.hash());
  }

  async #work(session: SenderSession, planner: ChangePlanner): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      session.signal.throwIfAborted();
      await this.#takeChanges(planner);
      if (this.#queue.hasSmall) {
        await this.#sendRound(session, planner);
      } else if (this.#canStepLarge(session)) {
        await this.#stepLarge(session, planner);
      } else {
        this.#noteCompletion();
        if (this.#large === null && this.#queue.isEmpty && this.#later.size === 0 && this.#staged.size > 0) {
          this.#staged.clear();
          await session.send({ kind: 'free', stages: [] });
        }
        await this.#bell.wait({ clock, atMostMs: this.#waitMs(), signal: session.signal });
        continue;
      }
      await letOthersRun();
    }
  }

  /** How long nothing will be to do unless something changes. */
  #waitMs(): number {
    const { changes, clock } = this.#options;
    const nowMs = clock.monotonicMs();
    const dueMs = [this.#later.dueMs];
    if (changes.sinceMonotonicMs !== null) dueMs.push(changes.sinceMonotonicMs + COALESCE_MS);
    // The flow has its own bell: a large file waits for room.
    if (this.#large !== null) dueMs.push(nowMs + 2);
    return Math.max(0, Math.min(IDLE_MS, ...dueMs.map((one) => one - nowMs)));
  }

  async #takeChanges(planner: ChangePlanner): Promise<void> {
    const { changes, clock, root } = this.#options;
    const nowMs = clock.monotonicMs();
    for (const { path, sinceMs } of this.#later.takeDue(nowMs)) this.#queue.addUrgent(path, sinceMs);
    if (changes.sinceMonotonicMs === null || changes.sinceMonotonicMs + COALESCE_MS > nowMs) return;
    this.#queue.takeIn(changes);
    const mark = changes.take();
    if (mark === null) return;
    this.#takenSinceMs = mark.sinceMonotonicMs;
    planner.rules = await loadIgnoreRules(root);
    await this.#scan(mark.sinceMonotonicMs);
    this.#takenSinceMs = Infinity;
  }

  /** Looks at the whole folder for what may differ. */
  async #scan(sinceMs: number): Promise<void> {
    const planner = this.#planner;
    if (planner === null) return;
    const { entries } = await scanWorkspace(this.#options.root, planner.rules, { signal: this.#stopping.signal });
    const there = new Set(entries.map(({ path }) => path));
    this.#queue.setBacklog(
      entries.filter((found) => planner.mayDiffer(found)),
      [...this.#tree.paths()].filter((path) => !there.has(path)),
      sinceMs,
    );
    this.#wasScanned = true;
  }

  async #sendRound(session: SenderSession, planner: ChangePlanner): Promise<void> {
    const { paths, sinceMs, bytes } = this.#queue.takeRound();
    this.#takenSinceMs = sinceMs;
    this.#takenBytes = bytes;
    const gone: string[] = [];
    let batch = this.#newBatch(sinceMs);
    // When the session ends midway, what was in no batch that went out is looked at by the next.
    const unsent = new Set(paths);
    const looked = new Set(paths);
    const flush = async (looked: readonly string[]) => {
      const full = batch;
      batch = this.#newBatch(sinceMs);
      for (const path of looked) if (!gone.includes(path)) unsent.delete(path);
      await this.#sendBatch(session, full);
    };
    try {
      for (const [index, path] of paths.entries()) {
        const look = planner.look(path, batch);
        if (look.kind === 'gone') gone.push(path);
        if (look.kind === 'large') this.#queue.addLarge(path, look.size, sinceMs);
        if (look.kind === 'again') this.#lookAgain(path, sinceMs);
        if (look.kind === 'verify') this.#verifyLater(path);
        if (look.kind === 'changed-folder') this.#queueUnseen(path, planner, { looked, sinceMs });
        if (look.kind === 'new-folder') await this.#queueBelow(path, planner, sinceMs);
        if (batch.isFull) await flush(paths.slice(0, index + 1));
      }
      if (paths.some((path) => !path.includes('/'))) this.#queueUnseen('', planner, { looked, sinceMs });
      for (const path of gone) {
        planner.remove(path, batch);
        if (batch.isFull) await flush([]);
      }
      await flush([]);
      unsent.clear();
    } finally {
      this.#sent.discard();
      for (const path of unsent) this.#queue.addUrgent(path, sinceMs);
      this.#takenSinceMs = Infinity;
      this.#takenBytes = 0;
    }
  }

  #newBatch(sinceMs: number): OutgoingBatch {
    const batch = new OutgoingBatch(this.#tree, this.#coder);
    batch.sinceMs = sinceMs;
    return batch;
  }

  async #sendBatch(session: SenderSession, batch: OutgoingBatch): Promise<void> {
    if (batch.ops.length === 0) return;
    const { seq, hash } = this.#sent.add(batch);
    for (const frame of batch.frames) await session.send(frame);
    await session.send({ kind: 'batch', seq, ops: batch.ops, hash });
  }

  #lookAgain(path: string, sinceMs: number): void {
    const dueMs = this.#options.clock.monotonicMs() + AGAIN_MS;
    this.#later.add(path, { dueMs, sinceMs, bytes: sizeAt(this.#options.root, path) });
  }

  /** It is on the standby as far as anybody can tell. */
  #verifyLater(path: string): void {
    this.#later.add(path, { dueMs: this.#options.clock.monotonicMs() + VERIFY_MS, sinceMs: Infinity, bytes: 0 });
  }

  /** What the watcher may not have told of. */
  #queueUnseen(folder: string, planner: ChangePlanner, round: Round): void {
    for (const path of planner.unseenIn(folder)) {
      const isKnown = this.#queue.isLarge(path) || this.#later.has(path) || this.#large?.file.path === path;
      if (isKnown || round.looked.has(path)) continue;
      this.#queue.addUrgent(path, round.sinceMs);
    }
  }

  async #queueBelow(folder: string, planner: ChangePlanner, sinceMs: number): Promise<void> {
    const { entries } = await scanWorkspace(this.#options.root, planner.rules, { below: folder });
    for (const found of entries) if (planner.mayDiffer(found)) this.#queue.addUrgent(found.path, sinceMs);
    for (const path of this.#tree.below(folder)) this.#queue.addUrgent(path, sinceMs);
  }

  #canStepLarge(session: SenderSession): boolean {
    if (this.#large === null) {
      const next = this.#queue.takeLarge();
      if (next === null) return false;
      const file = new LargeFile({
        ...next,
        root: this.#options.root,
        tree: this.#tree,
        reader: this.#largeReader,
        coder: this.#coder,
        staged: this.#staged,
        nextStage: () => (this.#stageCount += 1),
      });
      this.#large = { file, sinceMs: next.sinceMs };
    }
    return session.flow.hasRoomForLarge;
  }

  async #stepLarge(session: SenderSession, planner: ChangePlanner): Promise<void> {
    const large = this.#large;
    if (large === null) return;
    const { messages, read } = large.file.step();
    for (const message of messages) await session.send(message);
    if (read === null) return;
    const { path, stage } = large.file;
    const stages = [...large.file.spentStages];
    const now = planner.describe(path);
    if (read.kind === 'read' && !read.torn && now !== null && now.found.ino === read.state.ino) {
      const batch = this.#newBatch(large.sinceMs);
      planner.addFile({ path, meta: now.meta, content: read.content, state: read.state }, batch, stage ?? undefined);
      const usesStage = batch.ops.some(({ op }) => op === 'staged');
      await this.#sendBatch(session, batch);
      if (!usesStage && stage !== null) stages.push(stage);
    } else {
      if (stage !== null) stages.push(stage);
      // Vanished, replaced or torn: whatever it is now is to be looked at.
      this.#lookAgain(path, large.sinceMs);
    }
    this.#large = null;
    this.#staged.clear();
    if (stages.length > 0) await session.send({ kind: 'free', stages: [] });
  }

  /** A large file that was under way begins anew; what lies in the standby's stage need not travel again. */
  #putLargeBack(): void {
    if (this.#large === null) return;
    const { file, sinceMs } = this.#large;
    file[Symbol.dispose]();
    this.#queue.addLarge(file.path, file.sizeBytes, sinceMs);
    this.#large = null;
  }

  /** The standby has all of it: told by the last acknowledgement, or by a look that found nothing more to send. */
  #noteCompletion(): void {
    const isIdle = this.#queue.isEmpty && this.#large === null && this.#takenSinceMs === Infinity;
    if (isIdle && this.#sent.isEmpty && this.#wasScanned) this.#isInitial = false;
  }

  #onAck(seq: number, hash: string): void {
    if (!this.#sent.acknowledge(seq, hash)) {
      this.#session?.fail(new DumontError('CORRUPT', `the trees differ after batch ${seq}`, { retryable: true }));
      return;
    }
    this.#mismatches = 0;
    this.#noteCompletion();
  }
}
