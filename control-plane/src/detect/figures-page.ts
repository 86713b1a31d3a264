import type { DetectionFigures, HostKey } from '../store/detection.ts';
import type { StallHistory } from './stall-history.ts';
import type { Verdict } from './verdict.ts';

/** What was counted of one watched instance and is not written yet; mutable, owned by the book. Monotonic ms. */
export class FiguresPage {
  host: HostKey | null = null;
  /** Null until the instance is known. */
  history: StallHistory | null = null;
  isWriteDue = false;
  /** No longer watched: it may go once it is written. */
  isOver = true;
  #figures: DetectionFigures = NOTHING;
  /** Watched from here on and not counted yet; null while it is not judged. */
  #sinceMs: number | null = null;
  #suspectAtMs: number | null = null;
  #confirmSilenceMs: number | null = null;

  begin(nowMs: number): void {
    this.isOver = false;
    this.#sinceMs = nowMs;
    this.#suspectAtMs = null;
    this.#confirmSilenceMs = null;
  }

  end(nowMs: number): void {
    this.#count(nowMs);
    this.#sinceMs = null;
    this.isOver = true;
  }

  verdict({ kind, silenceMs }: Verdict, nowMs: number): void {
    const { suspects, mistakes, mistakeMs, averted, losses, detectMs, detectMaxMs } = this.#figures;
    switch (kind) {
      case 'suspect':
        this.#suspectAtMs = nowMs;
        this.#figures = { ...this.#figures, suspects: suspects + 1 };
        return;
      case 'confirm':
        this.#confirmSilenceMs = silenceMs;
        return;
      case 'alive': {
        const stoodMs = this.#suspectAtMs === null ? 0 : nowMs - this.#suspectAtMs;
        const isAverted = this.#confirmSilenceMs !== null;
        const more = { mistakes: mistakes + 1, mistakeMs: mistakeMs + stoodMs, averted: averted + (isAverted ? 1 : 0) };
        this.#figures = { ...this.#figures, ...more };
        this.#suspectAtMs = null;
        this.#confirmSilenceMs = null;
        return;
      }
      case 'commit': {
        const foundMs = this.#confirmSilenceMs ?? silenceMs;
        const more = { losses: losses + 1, detectMs: detectMs + foundMs, detectMaxMs: Math.max(detectMaxMs, foundMs) };
        this.#count(nowMs);
        this.#sinceMs = null;
        this.#figures = { ...this.#figures, ...more };
        return;
      }
    }
  }

  /** It was given up and spoke again. */
  returned(): void {
    this.#figures = { ...this.#figures, returned: this.#figures.returned + 1 };
  }

  /** What is to be written; counted anew from here on. */
  take(nowMs: number): DetectionFigures {
    this.#count(nowMs);
    const taken = this.#figures;
    this.#figures = NOTHING;
    return taken;
  }

  /** The write failed. */
  putBack(figures: DetectionFigures): void {
    this.#figures = sumOf(figures, this.#figures);
  }

  #count(nowMs: number): void {
    if (this.#sinceMs === null) return;
    this.#figures = { ...this.#figures, watchedMs: this.#figures.watchedMs + nowMs - this.#sinceMs };
    this.#sinceMs = nowMs;
  }
}

const NOTHING: DetectionFigures = {
  watchedMs: 0,
  suspects: 0,
  mistakes: 0,
  mistakeMs: 0,
  averted: 0,
  losses: 0,
  returned: 0,
  detectMs: 0,
  detectMaxMs: 0,
};

function sumOf(a: DetectionFigures, b: DetectionFigures): DetectionFigures {
  return {
    watchedMs: a.watchedMs + b.watchedMs,
    suspects: a.suspects + b.suspects,
    mistakes: a.mistakes + b.mistakes,
    mistakeMs: a.mistakeMs + b.mistakeMs,
    averted: a.averted + b.averted,
    losses: a.losses + b.losses,
    returned: a.returned + b.returned,
    detectMs: a.detectMs + b.detectMs,
    detectMaxMs: Math.max(a.detectMaxMs, b.detectMaxMs),
  };
}
