import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Database } from '../store/database.ts';
import {
  addDetectionFigures,
  findHostHistory,
  pruneHostHistories,
  putHostHistory,
  type HostKey,
} from '../store/detection.ts';
import { findInstance } from '../store/instances.ts';
import type { DetectionJournal, HeartbeatMonitor } from './heartbeat-monitor.ts';
import { FiguresPage } from './figures-page.ts';
import { StallHistory, stallRecordSchema, type EndedSilence } from './stall-history.ts';
import type { Verdict } from './verdict.ts';
import type { WatchBackground } from './watch.ts';

/** A crash loses this much of the figures at most; mistakes are written at once. */
const WRITE_EVERY_MS = 60_000;
const PRUNE_EVERY_MS = 86_400_000;
/** Six half-lives: what is left of such a history decides nothing. */
const FORGET_HOST_AFTER_MS = 90 * 86_400_000;

type Introduce = Pick<HeartbeatMonitor, 'introduce' | 'adapt'>;

/**
 * Keeps the quality of the detector's verdicts and the behaviour of the hosts it watches, in memory and, once a minute and
 * at mistakes, in the database. Tells the monitor who a watched instance is. Nothing here delays a verdict, and a
 * database that is away only postpones the writing.
 */
export class DetectionBook implements DetectionJournal, AsyncDisposable {
  readonly #parts: BookParts;
  readonly #pages = new Map<InstanceId, FiguresPage>();
  readonly #stop = new AbortController();
  #monitor: Introduce | undefined;
  #loop: Promise<void> | undefined;
  /** One write or read after another. */
  #tail: Promise<void> = Promise.resolve();
  #prunedAtMs = Number.NEGATIVE_INFINITY;

  constructor(parts: BookParts) {
    this.#parts = parts;
  }

  /** Monitor and book know each other; this closes the circle once. */
  connect(monitor: Introduce): void {
    this.#monitor = monitor;
    this.#loop ??= this.#writeUntilStopped();
  }

  watched(instanceId: InstanceId): void {
    const page = this.#pages.get(instanceId) ?? new FiguresPage();
    page.begin(this.#nowMs());
    this.#pages.set(instanceId, page);
    void this.#inTurn(() => this.#introduce(instanceId, page));
  }

  unwatched(instanceId: InstanceId): void {
    const page = this.#pages.get(instanceId);
    if (page === undefined) return;
    page.end(this.#nowMs());
    void this.#inTurn(async () => {
      await this.#write(instanceId, page);
      if (page.isOver && this.#pages.get(instanceId) === page) this.#pages.delete(instanceId);
    });
  }

  silenceEnded(instanceId: InstanceId, silence: EndedSilence & { readonly committed: boolean }): void {
    if (silence.committed) this.#returned(instanceId, silence);
    else this.#pages.get(instanceId)?.history?.ended(silence, this.#parts.clock.nowMs());
  }

  /** Every verdict, in order. */
  verdict(verdict: Verdict): void {
    const { kind, instanceId } = verdict;
    const page = this.#pages.get(instanceId);
    if (page === undefined) return;
    page.verdict(verdict, this.#nowMs());
    if (kind === 'alive' || kind === 'commit') this.#writeSoon(instanceId, page);
  }

  /** Writes what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#tail;
    await this.#inTurn(() => this.#writeAll());
  }

  /** Fenced by now and not watched: its figures and its host's history are opened once more. */
  #returned(instanceId: InstanceId, silence: EndedSilence): void {
    const page = this.#pages.get(instanceId) ?? new FiguresPage();
    this.#pages.set(instanceId, page);
    page.returned();
    void this.#inTurn(async () => {
      await this.#learn(instanceId, page);
      page.history?.ended(silence, this.#parts.clock.nowMs());
      await this.#write(instanceId, page);
      if (page.isOver) this.#pages.delete(instanceId);
    });
  }

  #nowMs(): number {
    return this.#parts.clock.monotonicMs();
  }

  #writeSoon(instanceId: InstanceId, page: FiguresPage): void {
    // Several mistakes that wait for one write are written by it.
    if (page.isWriteDue) return;
    page.isWriteDue = true;
    void this.#inTurn(() => this.#write(instanceId, page));
  }

  /** Never rejects. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#tail = this.#tail.then(work).catch((error: unknown) => {
      this.#parts.log.warn({ event: 'detection-book', err: error }, 'detection figures not kept yet, will try again');
    });
    return this.#tail;
  }

  async #writeUntilStopped(): Promise<void> {
    const { clock } = this.#parts;
    for (;;) {
      await clock.sleep(WRITE_EVERY_MS, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      await this.#inTurn(() => this.#writeAll());
    }
  }

  async #writeAll(): Promise<void> {
    const { db, clock } = this.#parts;
    for (const [instanceId, page] of this.#pages) {
      if (page.history === null) await this.#introduce(instanceId, page);
      await this.#write(instanceId, page);
      if (page.isOver) this.#pages.delete(instanceId);
      else this.#monitor?.adapt(instanceId);
    }
    if (clock.monotonicMs() - this.#prunedAtMs < PRUNE_EVERY_MS) return;
    await pruneHostHistories(db, clock.nowMs() - FORGET_HOST_AFTER_MS);
    this.#prunedAtMs = clock.monotonicMs();
  }

  async #introduce(instanceId: InstanceId, page: FiguresPage): Promise<void> {
    if (page.isOver) return;
    const background = await this.#learn(instanceId, page);
    if (background !== null) this.#monitor?.introduce(instanceId, background);
  }

  /** Null for an instance that the database does not know. */
  async #learn(instanceId: InstanceId, page: FiguresPage): Promise<WatchBackground | null> {
    const instance = await findInstance(this.#parts.db, instanceId);
    if (instance === undefined) return null;
    const { workspaceId, epoch, offer } = instance;
    const { provider, machineId } = offer;
    page.host ??= { provider, machineId };
    page.history ??= await this.#historyOf(page.host);
    return { workspaceId, epoch, history: page.history };
  }

  /** Two machines on one host share its history. */
  async #historyOf(host: HostKey): Promise<StallHistory> {
    for (const page of this.#pages.values()) {
      const isSame = page.host?.provider === host.provider && page.host.machineId === host.machineId;
      if (isSame && page.history !== null) return page.history;
    }
    const { db, clock, log } = this.#parts;
    const stored = await findHostHistory(db, host);
    const parsed = stored === undefined ? null : stallRecordSchema.safeParse(stored);
    if (parsed?.success === false)
      log.warn({ event: 'host-history-unreadable', ...host }, 'host starts without history');
    return new StallHistory(parsed?.data ?? null, clock.nowMs());
  }

  async #write(instanceId: InstanceId, page: FiguresPage): Promise<void> {
    const { db, clock } = this.#parts;
    page.isWriteDue = false;
    const { history, host } = page;
    const figures = page.take(this.#nowMs());
    history?.watched(figures.watchedMs, clock.nowMs());
    try {
      await addDetectionFigures(db, instanceId, figures, clock.nowMs());
    } catch (error) {
      page.putBack(figures);
      throw error;
    }
    if (history !== null && host !== null)
      await putHostHistory(db, host, history.toRecord(clock.nowMs()), clock.nowMs());
  }
}

interface BookParts {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
}
