import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Notice } from '@dumont/shared/protocol/notice.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import type { EventType } from '../store/event-types.ts';
import { appendEvent } from '../store/events.ts';
import type { InstanceRow } from '../store/instances.ts';
import { findInstance } from '../store/instances.ts';
import { findWorkspace } from '../store/workspaces.ts';
import type { OperationParts } from './operation-parts.ts';
import type { OperationRunner } from './runner.ts';
import { startFailover } from './start.ts';

/** Waiting to be written; an agent says something a few times in its life, a broken one is cut short here. */
const MAX_PENDING = 1_000;

type Parts = Pick<OperationParts, 'db' | 'clock' | 'log' | 'onChange' | 'standbyLag'>;

/**
 * Writes down what agents say unasked, and has a workspace leave a machine that its provider takes back. What cannot be
 * written is logged and lost: nothing waits for it, and a machine that goes is found lost anyway.
 */
export class NoticeDesk implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #runner: Pick<OperationRunner, 'nudge'>;
  #pending = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(parts: Parts, runner: Pick<OperationRunner, 'nudge'>) {
    this.#parts = parts;
    this.#runner = runner;
  }

  /** Never throws, never blocks; called by the hub. */
  readonly onNotice = (instanceId: InstanceId, notice: Notice): void => {
    const { log } = this.#parts;
    if (this.#pending >= MAX_PENDING) {
      log.warn({ event: 'notice.overflow', instanceId, type: notice.type }, 'notice dropped: too many are waiting');
      return;
    }
    this.#pending += 1;
    this.#tail = this.#tail
      .then(() => this.#act(instanceId, notice))
      .catch((error: unknown) => {
        log.warn({ event: 'notice.failed', instanceId, type: notice.type, err: error }, 'notice not written down');
      })
      .finally(() => {
        this.#pending -= 1;
      });
  };

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tail;
  }

  async #act(instanceId: InstanceId, notice: Notice): Promise<void> {
    const instance = await findInstance(this.#parts.db, instanceId);
    if (instance === undefined) return;
    switch (notice.type) {
      case 'soft-error': {
        const { source, message } = notice;
        return this.#record('workload.soft-error', instance, { source, message });
      }
      case 'leaving': {
        const { source, withinMs } = notice;
        const type = source === 'sigterm' ? 'agent.stopping' : 'instance.preempted';
        await this.#record(type, instance, { source, withinMs });
        // An agent that was told to stop may be back in a moment; a machine that its provider takes back is not.
        if (source !== 'sigterm') await this.#leave(instance, source);
        return;
      }
      case 'last-words':
        return this.#record('instance.last-words', instance, notice.words);
      default:
        assertNever(notice);
    }
  }

  /** Looks for another machine while this one still runs; what it has left to save is saved by the hand-over. */
  async #leave({ id: instanceId, workspaceId }: InstanceRow, source: string): Promise<void> {
    const { db, clock } = this.#parts;
    const workspace = await findWorkspace(db, workspaceId);
    if (workspace?.primaryInstanceId !== instanceId) return;
    const nowMs = clock.nowMs();
    const operationId = await startFailover(this.#parts, {
      workspaceId,
      data: {
        trigger: 'preempted',
        reason: 'the provider takes the machine back',
        evidence: [{ kind: 'preempted', hard: false, atMs: nowMs, detail: source }],
        fromInstanceId: instanceId,
        silenceBeganAtMs: nowMs,
        confirmedAtMs: nowMs,
        detectMs: 0,
        standbyLag: this.#parts.standbyLag(instanceId) ?? null,
      },
    });
    if (operationId !== undefined) this.#runner.nudge();
  }

  async #record(
    type: EventType,
    { id: instanceId, workspaceId }: InstanceRow,
    data: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { db, clock, onChange } = this.#parts;
    await appendEvent(db, { type, atMs: clock.nowMs(), workspaceId, instanceId, data });
    onChange();
  }
}
