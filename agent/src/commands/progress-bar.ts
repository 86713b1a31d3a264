import { formatBytes } from '@dumont/shared/util/units.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { CommandIo } from './command.ts';

const WIDTH = 28;
/** Ten redraws a second are smooth and cost nothing. */
const REDRAW_MS = 100;

/** One line on a terminal's stderr that is redrawn while work runs; does nothing where nobody watches. */
export class ProgressBar {
  readonly #io: CommandIo;
  readonly #clock: Clock;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  constructor(io: CommandIo, clock: Clock) {
    this.#io = io;
    this.#clock = clock;
  }

  update(label: string, progress: { readonly doneBytes: number; readonly totalBytes: number }): void {
    const { doneBytes, totalBytes } = progress;
    this.#draw(label, doneBytes, totalBytes, formatBytes);
  }

  /** The same for things that are counted. */
  count(label: string, done: number, total: number): void {
    this.#draw(label, done, total, String);
  }

  #draw(label: string, done: number, total: number, format: (amount: number) => string): void {
    const nowMs = this.#clock.monotonicMs();
    if (!this.#io.isTty || nowMs - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = nowMs;
    this.#isShown = true;
    const share = total === 0 ? 1 : Math.min(1, done / total);
    const bar = '#'.repeat(Math.round(share * WIDTH)).padEnd(WIDTH, '-');
    const percent = String(Math.floor(share * 100)).padStart(3);
    this.#io.stderr.write(`\r\u001b[K${label} [${bar}] ${percent}% ${format(done)}/${format(total)}`);
  }

  /** Wipes the line, so that what is printed next stands alone. */
  clear(): void {
    if (this.#isShown) this.#io.stderr.write('\r\u001b[K');
    this.#isShown = false;
  }
}
