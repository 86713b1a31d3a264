import type { Heartbeat } from '@dumont/shared/protocol/heartbeat.ts';

export type PeerWord = NonNullable<Heartbeat['peer']>;

/**
 * When a standby last heard its primary, fit to be a testimony: a standby that was too busy to listen must not call its
 * primary silent. Asked regularly, it takes each delay of ours for time in which nothing could be heard.
 */
export class PeerEar {
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #deafMs = 0;
  #heardAtMs: number | null = null;

  /**
   * @param heardAtMs when the last byte came, on the same monotonic clock as `nowMs`
   * @returns null while it cannot know
   */
  listen(source: { readonly epoch: number; readonly heardAtMs: number | null }, nowMs: number): PeerWord | null {
    const latenessMs = nowMs - this.#askedAtMs - LISTEN_EVERY_MS;
    this.#askedAtMs = nowMs;
    const { epoch, heardAtMs } = source;
    if (heardAtMs !== this.#heardAtMs) this.#deafMs = 0;
    else if (latenessMs > BUSY_AFTER_MS) this.#deafMs += latenessMs;
    this.#heardAtMs = heardAtMs;
    if (heardAtMs === null) return null;
    return { epoch, heardMsAgo: Math.max(0, nowMs - heardAtMs - this.#deafMs) };
  }
}

/** How often the agent asks. */
export const LISTEN_EVERY_MS = 100;
/** Ordinary garbage collection is shorter. */
const BUSY_AFTER_MS = 50;
