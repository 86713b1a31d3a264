import type { OperationView } from '@dumont/shared/api/views.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import type { Cli } from './cli.ts';
import { renderStep } from './output/operation.ts';

/** Events announce progress at once; this is how late it is noticed without them. */
const POLL_MS = 1_000;
/** A control plane that restarts is back by then; the operation goes on without us anyway. */
const MAX_OUTAGE_MS = 60_000;
/** Redraw rate of the running step on a terminal. */
const FRAME_MS = 120;
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'] as const;
/** Lines redrawn on a terminal: an operation with many attempts must not outgrow the screen. */
const MAX_LIVE_STEPS = 12;

/**
 * Waits until an operation is over (or far enough, by `isEnough`) and shows its steps meanwhile: redrawn on a terminal, one line per finished step
 * elsewhere, nothing with --json. Survives a restart of the control plane.
 * @throws {DumontError} ABORTED on Ctrl-C (the operation goes on), and what the API answers
 */
export async function followOperation(
  cli: Cli,
  operationId: string,
  isEnough: (view: OperationView) => boolean = () => false,
): Promise<OperationView> {
  const stop = new AbortController();
  const bell = new Bell();
  const listening = listen(cli, operationId, bell, AbortSignal.any([cli.signal, stop.signal]));
  using progress = new Progress(cli);
  try {
    let lastAnswerMs = cli.clock.monotonicMs();
    for (;;) {
      try {
        const view = await cli.client.call('getOperation', { params: { operationId } });
        lastAnswerMs = cli.clock.monotonicMs();
        progress.show(view);
        if (view.finished || isEnough(view)) return view;
      } catch (error) {
        const outageMs = cli.clock.monotonicMs() - lastAnswerMs;
        if (!isDumontError(error) || !error.retryable || outageMs > MAX_OUTAGE_MS) throw error;
      }
      await bell.wait(cli, POLL_MS);
    }
  } finally {
    stop.abort();
    await listening;
    if (cli.signal.aborted) cli.note(`Stopped waiting; the operation goes on: dumont operations show ${operationId}`);
  }
}

/** Rings for every event of the operation. */
async function listen(cli: Cli, operationId: string, bell: Bell, signal: AbortSignal): Promise<void> {
  try {
    for await (const event of cli.client.events({ signal })) {
      if (event.operationId === operationId) bell.ring();
    }
  } catch {
    // Polling goes on without events, and meets a lasting failure itself.
  }
}

/** Wakes one waiter early; a ring while nobody waits is kept. */
class Bell {
  #rang = false;
  #wake: () => void = () => {};

  ring(): void {
    this.#rang = true;
    this.#wake();
  }

  async wait(cli: Cli, ms: number): Promise<void> {
    if (!this.#rang) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await cli.clock.sleep(ms, AbortSignal.any([woken.signal, cli.signal])).catch(() => {});
      this.#wake = () => {};
    }
    this.#rang = false;
  }
}

class Progress implements Disposable {
  readonly #cli: Cli;
  readonly #stopFrames: () => void;
  #view: OperationView | undefined;
  #frame = 0;
  #drawnLines = 0;
  #printedSteps = 0;

  constructor(cli: Cli) {
    this.#cli = cli;
    this.#stopFrames = cli.isLive ? cli.clock.every(FRAME_MS, () => this.#draw()) : () => {};
  }

  show(view: OperationView): void {
    this.#view = view;
    if (this.#cli.json) return;
    if (this.#cli.isLive) {
      this.#draw();
      return;
    }
    const finished = view.steps.filter((step) => step.endedAtMs !== null);
    for (const step of finished.slice(this.#printedSteps)) {
      this.#cli.print(renderStep(this.#cli, step, this.#cli.clock.nowMs()));
    }
    this.#printedSteps = Math.max(this.#printedSteps, finished.length);
  }

  [Symbol.dispose](): void {
    this.#stopFrames();
  }

  #draw(): void {
    if (this.#view === undefined) return;
    this.#frame += 1;
    const mark = FRAMES[this.#frame % FRAMES.length] ?? '';
    const lines = this.#view.steps
      .slice(-MAX_LIVE_STEPS)
      .map((step) => renderStep(this.#cli, step, this.#cli.clock.nowMs(), mark));
    const back = this.#drawnLines === 0 ? '' : `\u001B[${this.#drawnLines}A\r\u001B[J`;
    this.#cli.write(back + lines.map((line) => `${line}\n`).join(''));
    this.#drawnLines = lines.length;
  }
}
