import type { Upstream } from '@dumont/shared/protocol/messages.ts';

/**
 * Messages held while the link is down. 64 remembered command results and a few answers fit with room; a longer
 * outage keeps the newest.
 */
export const OUTBOX_LIMIT = 128;

/** A sample older than the newest few tells nothing, so an outage does not end in a burst of them. */
export const OUTBOX_SAMPLE_LIMIT = 8;

/**
 * Bounded queue of messages for a link that is down. Results and commits are kept in order; samples and progress,
 * which age, make room first, oldest first.
 */
export class Outbox {
  #messages: Upstream[] = [];
  #droppedCount = 0;

  push(message: Upstream): void {
    this.#messages.push(message);
    const sampleCount = this.#messages.filter(isPerishable).length;
    if (sampleCount > OUTBOX_SAMPLE_LIMIT) this.#dropOldestPerishable();
    if (this.#messages.length > OUTBOX_LIMIT) {
      if (!this.#dropOldestPerishable()) {
        this.#messages.shift();
        this.#droppedCount += 1;
      }
    }
  }

  /** Everything in order; the outbox is empty afterwards. */
  drain(): readonly Upstream[] {
    const messages = this.#messages;
    this.#messages = [];
    return messages;
  }

  /** Messages lost for want of room, all kinds together. */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  #dropOldestPerishable(): boolean {
    const index = this.#messages.findIndex(isPerishable);
    if (index === -1) return false;
    this.#messages.splice(index, 1);
    this.#droppedCount += 1;
    return true;
  }
}

/** True for messages that a newer one of their kind replaces. */
export function isPerishable(message: Upstream): boolean {
  return message.kind === 'sample' || message.kind === 'command-progress' || message.kind === 'heartbeat';
}
