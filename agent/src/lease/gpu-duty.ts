import { mkdir } from 'node:fs/promises';
import type { Standing } from '@dumont/shared/model/instance.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { LastWords } from '@dumont/shared/protocol/notice.ts';
import { assertNever, must } from '@dumont/shared/util/assert.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { ControlLink } from '../link/control-link.ts';
import { peerOf } from '../peer/chunk-peer.ts';
import type { SyncState } from '../sync/sync-state.ts';
import { WorkloadKeeper } from '../workload/workload-keeper.ts';
import { UnsavedSize } from '../workspace/dirty-size.ts';
import { WorkspaceWatcher } from '../workspace/watch.ts';
import type { Duty, DutyAction } from './duty.ts';
import { harvest, mergeBranch } from './branch-actions.ts';
import { EngineHolder } from './engine-holder.ts';
import type { OpenEngine, WorkOptions, WorkspaceEngine } from './engine.ts';
import { flushWithin } from './last-flush.ts';
import { Publisher } from './publisher.ts';
import { StandbyLink, type StandbyLinkOptions } from './standby-link.ts';
import { unsavedSince, type StateFile } from './state-file.ts';
import { isTrial, performTrial, type TrialOptions } from './trial.ts';
import { waitForGrant } from './wait-for-grant.ts';

/** A fenced workload must not go on beside its successor; two seconds are enough to close files. */
const FENCE_GRACE_MS = 2_000;
/** On the way out the machine still gives us a little time. */
const EXIT_GRACE_MS = 5_000;
/** Of the time left, for the workload to save what it holds in memory: it has to be uploaded after that. */
const LAST_HOOK_SHARE = 1 / 3;
/** A store that is not mounted yet or a full disk may be well again soon. */
const RETRY_MS = 2_000;

export interface GpuDutyOptions extends Pick<StandbyLinkOptions, 'uploads'>, Pick<TrialOptions, 'nvidiaSmi'> {
  readonly workspaceDir: string;
  readonly stateDir: string;
  readonly workloadEnvironment: Readonly<Record<string, string>>;
  readonly stateFile: StateFile;
  readonly openEngine: OpenEngine;
  readonly link: Pick<ControlLink, 'commitSnapshot' | 'state' | 'send'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/**
 * The duty of a GPU instance. As `primary` it watches, publishes and runs the workload; as `replacement` it obeys
 * restores; once fenced it stops everything but keeps the files. Losing contact changes nothing: only a higher epoch
 * or an assignment does.
 */
export class GpuDuty implements Duty {
  readonly #options: GpuDutyOptions;
  readonly #workload: WorkloadKeeper;
  readonly #trial: TrialOptions;
  #assignment: Assignment | null = null;
  /** Assignments take effect one after another. */
  #settling: Promise<void> = Promise.resolve();
  readonly #engines: EngineHolder;
  readonly #standby: StandbyLink;
  readonly #unsavedSize: UnsavedSize;
  /** Rings with every assignment. */
  readonly #granted = new Bell();
  #watcher: WorkspaceWatcher | null = null;
  #publisher: Publisher | null = null;
  #publisherKey = '';
  /** What was unsaved when publishing ended; it stays unsaved. */
  #abandonedSinceMs: number | null = null;
  /** Monotonic time from which on an earlier agent process may have left changes unsaved; null when none did. */
  #inheritedSinceMs: number | null;
  #isRestoring = false;
  /** Saving what can be saved before the machine goes. */
  #leaving: Promise<unknown> = Promise.resolve();
  #cancelRetry = () => {};

  constructor(options: GpuDutyOptions) {
    this.#options = options;
    this.#engines = new EngineHolder(options.openEngine);
    this.#standby = new StandbyLink(options);
    this.#unsavedSize = new UnsavedSize(options.workspaceDir, options.clock);
    this.#inheritedSinceMs = unsavedSince(options.stateFile.state, options.clock);
    this.#workload = new WorkloadKeeper({
      ...options,
      environment: options.workloadEnvironment,
      tell: (notice) => options.link.send({ kind: 'notice', notice }),
      onState: (state) => this.#onWorkloadState(state),
    });
    const asReplacement = (signal: AbortSignal) => this.#grantedAs('replacement', signal);
    const engineFor = (assignment: Assignment) => this.#engineFor(assignment);
    this.#trial = { ...options, workload: this.#workload, asReplacement, engineFor };
  }

  get workloadState(): WorkloadState {
    return this.#workload.state;
  }

  assign(assignment: Assignment): void {
    this.#assignment = assignment;
    this.#workload.follow(assignment);
    this.#granted.ring();
    this.#engines.renew(assignment);
    // Publishing under an epoch that is over must not wait for its turn.
    if (!this.#isPrimary()) this.#stopPublishing();
    this.#settling = this.#settling.then(async () => {
      // A newer assignment waits behind: this one is history.
      if (assignment !== this.#assignment) return;
      try {
        await this.#settle(assignment);
      } catch (error) {
        const { log, clock } = this.#options;
        const err = toDumontError(error);
        log.error({ event: 'assignment-failed', err, retryInMs: RETRY_MS }, 'the assignment could not take effect');
        this.#cancelRetry();
        this.#cancelRetry = clock.after(RETRY_MS, () => {
          if (assignment === this.#assignment) this.assign(assignment);
        });
      }
    });
  }

  online(): void {
    this.#publisher?.nudge();
  }

  epochHeard(epoch: number): void {
    if (this.#assignment === null || epoch <= this.#assignment.epoch) return;
    this.#stopPublishing();
  }

  async perform(action: DutyAction, options: WorkOptions): Promise<ActionResult> {
    await this.#settling;
    if (isTrial(action)) return performTrial(action, this.#trial, options);
    switch (action.name) {
      case 'snapshot':
        // It saves the same, in the order that matters when time is short.
        await this.#leaving;
        return { name: 'snapshot', record: await this.#activePublisher().publishNow(options.onProgress) };
      case 'restore':
        return this.#restore(action, options);
      case 'start-workload':
        return this.#startWorkload(action, options.signal);
      case 'stop-workload': {
        await this.#options.stateFile.update({ workloadWanted: false });
        await this.#workload.leave(action.graceMs, options.signal);
        return { name: 'stop-workload', state: this.#workload.state };
      }
      case 'harvest':
        return harvest(action, await this.#engineFor(await this.#grantedAs('fenced', options.signal)), options);
      case 'merge-branch':
        return this.#mergeBranch(action, options);
      default:
        return assertNever(action);
    }
  }

  unsavedMs(): number {
    const sinceMs = this.#publisher?.unsavedSinceMs ?? this.#abandonedSinceMs;
    return sinceMs === null ? 0 : this.#options.clock.monotonicMs() - sinceMs;
  }

  unsavedBytes(): number | null {
    return this.unsavedMs() === 0 ? 0 : this.#unsavedSize.of(this.#publisher?.unsavedPaths ?? ['everything']);
  }

  standbyBehind(): SyncState | null {
    return this.#standby.state;
  }

  lastWords(withinMs: number): Promise<LastWords | null> {
    const words = this.#lastWords(withinMs);
    this.#leaving = words;
    return words;
  }

  async stopWorkload(): Promise<void> {
    await this.#workload.stop(EXIT_GRACE_MS);
  }

  async settle(withinMs: number): Promise<void> {
    const waiting = new AbortController();
    try {
      await Promise.race([
        this.#publisher?.verdictHeard(),
        this.#options.clock.sleep(withinMs, waiting.signal).catch(() => {}),
      ]);
    } finally {
      waiting.abort();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#assignment = null;
    this.#cancelRetry();
    await this.#settling;
    this.#cancelRetry();
    await this.#endPublishing(new DumontError('ABORTED', 'the agent stops'));
    await this.#engines[Symbol.asyncDispose]();
    await this.#workload[Symbol.asyncDispose]();
  }

  async #lastWords(withinMs: number): Promise<LastWords | null> {
    const publisher = this.#publisher;
    if (publisher === null || publisher.isStopped) return null;
    const { clock, log, workspaceDir: root } = this.#options;
    const startMs = clock.monotonicMs();
    await this.#workload.prepareToStop(AbortSignal.any([]), withinMs * LAST_HOOK_SHARE);
    const leftMs = Math.max(0, withinMs - (clock.monotonicMs() - startMs));
    const flushed = await flushWithin({ root, publisher, withinMs: leftMs, clock, log });
    const words = { ...flushed, standbyBehindBytes: this.#standby.state?.pendingBytes ?? null };
    log.info({ event: 'last-words', ...words }, 'what can be saved in time is saved');
    return words;
  }

  /** Primary, and no higher epoch was heard since: then the lease is someone else's, whatever this assignment says. */
  #isPrimary(): boolean {
    const assignment = this.#assignment;
    if (assignment?.standing !== 'primary') return false;
    return assignment.epoch >= this.#options.stateFile.state.highestEpoch;
  }

  async #settle(assignment: Assignment): Promise<void> {
    const { stateFile, log } = this.#options;
    const { standing, epoch, workspaceId } = assignment;
    log.info({ event: 'assigned', standing, epoch, workspaceId }, 'the assignment takes effect');
    switch (standing) {
      case 'primary':
        if (!this.#isPrimary()) {
          log.warn({ event: 'stale-assignment', epoch }, 'told to be primary of an epoch that is over: waiting');
          return;
        }
        await this.#becomePrimary(assignment);
        if (stateFile.state.standing !== standing) {
          // What was restored is in the head; from here on changes count.
          await stateFile.update({ standing, savedBeforeMs: this.#options.clock.nowMs() });
        }
        return;
      case 'replacement':
      case 'standby':
      case 'fenced':
        await this.#workload.stop(FENCE_GRACE_MS);
        await this.#endPublishing(new DumontError('STALE_EPOCH', `this instance is ${standing} at epoch ${epoch}`));
        if (standing !== 'fenced') this.#abandonedSinceMs = null;
        this.#inheritedSinceMs = null;
        await stateFile.update({ standing, workloadWanted: false });
        return;
      default:
        assertNever(standing);
    }
  }

  async #becomePrimary(assignment: Assignment): Promise<void> {
    const { workspaceDir, stateFile } = this.#options;
    await mkdir(workspaceDir, { recursive: true });
    if (stateFile.state.workloadWanted && this.#workload.state === 'unstarted' && assignment.workload !== null) {
      await this.#workload.takeUp(assignment.workload);
    }
    await this.#publishAs(assignment, await this.#engineFor(assignment));
    // The watcher is there once publishing has begun.
    await this.#standby.follow(assignment, this.#watcher);
  }

  async #publishAs(assignment: Assignment, engine: WorkspaceEngine): Promise<void> {
    const { link } = this.#options;
    const { epoch, head } = assignment;
    const intervalMs = assignment.policy.snapshotIntervalMs;
    const key = `${epoch} ${this.#engines.key}`;
    if (this.#publisher !== null && this.#publisherKey === key && !this.#publisher.isStopped) {
      this.#publisher.setIntervalMs(intervalMs);
      this.#publisher.nudge();
      return;
    }
    await this.#publisher?.stop(new DumontError('ABORTED', 'a newer assignment took over'));
    this.#watcher ??= await this.#watch(engine);
    const workload = this.#workload;
    this.#publisher = new Publisher({
      ...this.#options,
      engine: { create: (request) => workload.atRest(() => engine.create(request), request.signal) },
      dirty: this.#watcher,
      commit: (request, signal) => link.commitSnapshot(request, signal),
      isOnline: () => link.state === 'online',
      unsavedSinceMs: this.#inheritedSinceMs,
      onSaved: (beforeWallMs) => this.#onSaved(beforeWallMs),
      epoch,
      head,
      intervalMs,
    });
    this.#publisherKey = key;
    this.#abandonedSinceMs = null;
    this.#publisher.nudge();
  }

  async #watch(engine: WorkspaceEngine): Promise<WorkspaceWatcher> {
    const { workspaceDir, clock, log } = this.#options;
    const ignore = await engine.ignoreRules();
    const onFirstDirty = () => this.#publisher?.nudge();
    const watcher = new WorkspaceWatcher({ root: workspaceDir, ignore, clock, log, onFirstDirty });
    // The first scan of a large folder takes a while; publishing need not wait, everything is dirty until then.
    void watcher.start();
    return watcher;
  }

  async #startWorkload(
    { stableMs, check = false }: Extract<DutyAction, { readonly name: 'start-workload' }>,
    signal: AbortSignal,
  ): Promise<ActionResult> {
    const spec = this.#assignment?.workload ?? null;
    if (!this.#isPrimary()) throw this.#notPrimary('start the workload');
    if (spec === null) throw new DumontError('NOT_FOUND', 'this workspace has no workload');
    await this.#options.stateFile.update({ workloadWanted: true });
    return this.#workload.start(spec, { stableMs, check, signal });
  }

  async #restore(
    { snapshot, bare = false }: Extract<DutyAction, { readonly name: 'restore' }>,
    options: WorkOptions,
  ): Promise<Extract<ActionResult, { readonly name: 'restore' }>> {
    const assignment = await this.#grantedAs('replacement', options.signal);
    if (this.#isRestoring) throw new DumontError('CONFLICT', 'another restore runs');
    this.#isRestoring = true;
    try {
      const { workspaceDir, clock } = this.#options;
      await mkdir(workspaceDir, { recursive: true });
      const engine = await this.#engineFor(assignment);
      const restored = await engine.restore({ ...options, snapshot, peer: peerOf(assignment) });
      if (bare) return { name: 'restore', restore: { ...restored, hookMs: 0 } };
      const startMs = clock.monotonicMs();
      const checkpoints = await this.#workload.afterRestore(assignment.workload, options.signal);
      const hookMs = clock.monotonicMs() - startMs;
      return { name: 'restore', restore: { ...restored, hookMs, ...(checkpoints !== null && { checkpoints }) } };
    } finally {
      this.#isRestoring = false;
    }
  }

  #engineFor(assignment: Assignment): Promise<WorkspaceEngine> {
    return this.#engines.engineFor(assignment, (reason) => this.#endPublishing(reason));
  }

  async #mergeBranch(action: Parameters<typeof mergeBranch>[0], options: WorkOptions): Promise<ActionResult> {
    const publisher = this.#activePublisher();
    const dirty = must(this.#watcher, 'who publishes watches');
    const engine = await this.#engineFor(must(this.#assignment, 'a primary has an assignment'));
    return mergeBranch(action, { engine, publisher, dirty, clock: this.#options.clock }, options);
  }

  #grantedAs(standing: Standing, signal: AbortSignal): Promise<Assignment> {
    const { clock } = this.#options;
    return waitForGrant({ newest: () => this.#assignment, changed: this.#granted, clock }, standing, signal);
  }

  #activePublisher(): Publisher {
    if (!this.#isPrimary()) throw this.#notPrimary('take a snapshot');
    if (this.#publisher === null) {
      throw new DumontError('UNAVAILABLE', 'the workspace or its storage is not ready', { retryable: true });
    }
    return this.#publisher;
  }

  #notPrimary(doing: string): DumontError {
    const { highestEpoch } = this.#options.stateFile.state;
    const standing = `${this.#assignment?.standing} of epoch ${this.#assignment?.epoch}`;
    return new DumontError('CONFLICT', `cannot ${doing}: this instance is ${standing}, the newest is ${highestEpoch}`);
  }

  #stopPublishing(): void {
    void this.#publisher?.stop(new DumontError('STALE_EPOCH', 'a higher epoch holds the lease'));
    this.#standby.stop();
  }

  async #endPublishing(reason: DumontError): Promise<void> {
    await this.#publisher?.stop(reason);
    this.#abandonedSinceMs = this.#publisher?.unsavedSinceMs ?? this.#abandonedSinceMs;
    this.#publisher = null;
    await this.#standby.end();
    await this.#watcher?.[Symbol.asyncDispose]();
    this.#watcher = null;
  }

  #onSaved(beforeWallMs: number): void {
    this.#inheritedSinceMs = null;
    this.#keep({ savedBeforeMs: beforeWallMs });
  }

  #onWorkloadState(state: WorkloadState): void {
    this.#options.log.info({ event: 'workload-state', state }, 'the workload changed its state');
    if (state === 'exited' || state === 'failed') this.#keep({ workloadWanted: false });
  }

  /** Remembers over a restart, in the background. */
  #keep(change: Parameters<StateFile['update']>[0]): void {
    const { log, stateFile } = this.#options;
    stateFile.update(change).catch((error: unknown) => {
      log.error({ event: 'state-write-failed', err: error, ...change }, 'cannot remember a change of state');
    });
  }
}
