import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Notice } from '@dumont/shared/protocol/notice.ts';
import { appendEvent } from '../store/events.ts';
import { findInstance } from '../store/instances.ts';
import type { OperationParts } from './operation-parts.ts';

/** Waiting to be written; an agent says something a few times in its life, a broken one is cut short here. */
const MAX_PENDING = 1_000;

/** Writes down what agents say unasked. What cannot be written is logged and lost: nothing waits for it. */
export class NoticeDesk implements AsyncDisposable {
  readonly #parts: Pick<OperationParts, 'db' | 'clock' | 'log' | 'onChange'>;
  #pending = 0;
  #tail: Promise<void> = Promise.resolve();

  constructor(parts: Pick<OperationParts, 'db' | 'clock' | 'log' | 'onChange'>) {
    this.#parts = parts;
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
      .then(() => this.#record(instanceId, notice))
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

  async #record(instanceId: InstanceId, notice: Notice): Promise<void> {
    const { db, clock, onChange } = this.#parts;
    const instance = await findInstance(db, instanceId);
    if (instance === undefined) return;
    const { workspaceId } = instance;
    const { type: _, ...data } = notice;
    await appendEvent(db, { type: 'workload.soft-error', atMs: clock.nowMs(), workspaceId, instanceId, data });
    onChange();
  }
}
