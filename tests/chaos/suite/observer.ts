import { systemClock } from '@dumont/shared/util/clock.ts';
import { lastTickIn, type Tick } from './ticks.ts';

const LOOK_MS = 20;
const ASK_MS = 40;
const ANSWER_TIMEOUT_MS = 1_500;
/** Minutes of looks: a case that lasts longer has failed by then. */
const MAX_RECORDS = 50_000;

/** The newest tick of the standby's copy changed to this one, not before `afterMs` and not after `atMs`. */
export interface CopySeen {
  readonly tick: Tick;
  readonly afterMs: number;
  readonly atMs: number;
}

/** The gateway led a user to this machine. */
export interface Answer {
  readonly machine: string;
  readonly atMs: number;
}

/** Watches from outside what users and the standby get to see, on the wall clock of this computer. */
export class Observer implements AsyncDisposable {
  readonly copies: CopySeen[] = [];
  readonly answers: Answer[] = [];
  readonly #stop = new AbortController();
  readonly #loops: Promise<unknown>;

  constructor(watched: { readonly gatewayUrl: string; readonly standbyFolder: string | null }) {
    const { gatewayUrl, standbyFolder } = watched;
    const loops = [this.#repeat(ASK_MS, () => this.#ask(gatewayUrl))];
    if (standbyFolder !== null) loops.push(this.#watchCopy(standbyFolder));
    this.#loops = Promise.all(loops);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loops;
  }

  #watchCopy(folder: string): Promise<void> {
    let lookedAtMs = systemClock.nowMs();
    return this.#repeat(LOOK_MS, async () => {
      const afterMs = lookedAtMs;
      lookedAtMs = systemClock.nowMs();
      const tick = await lastTickIn(folder);
      const before = this.copies.at(-1)?.tick;
      const isNew = tick !== null && (tick.count !== before?.count || tick.machine !== before.machine);
      if (isNew && this.copies.length < MAX_RECORDS) this.copies.push({ tick, afterMs, atMs: systemClock.nowMs() });
    });
  }

  async #ask(url: string): Promise<void> {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
      const body = (await answer.json()) as { readonly machine?: unknown };
      const isHeard = answer.status === 200 && typeof body.machine === 'string';
      if (!isHeard || this.answers.length >= MAX_RECORDS) return;
      this.answers.push({ machine: body.machine, atMs: systemClock.nowMs() });
    } catch {
      // Nobody serves right now: a user tries again too.
    }
  }

  async #repeat(everyMs: number, work: () => Promise<void>): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await work();
      await systemClock.sleep(everyMs, this.#stop.signal).catch(() => {});
    }
  }
}
