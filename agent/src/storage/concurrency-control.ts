/** Bounds of the number of requests at a time. */
export interface ConcurrencyBounds {
  readonly min: number;
  readonly max: number;
}

/**
 * How many requests may run at a time, found by hill climbing: doubled while that brings more (`climb`), then kept
 * (`hold`), with a try a little higher now and then (`try`); halved when the service pushes back.
 */
export interface ConcurrencyState {
  readonly phase: 'climb' | 'hold' | 'try';
  readonly limit: number;
  /** The limit before this climb or try, and what it brought; null before the first measured window. */
  readonly before: { readonly limit: number; readonly workPerSecond: number } | null;
  /** Windows held since the last try. */
  readonly heldWindows: number;
}

/** One measured window: what passed, and whether callers kept every permitted request running. */
export interface ConcurrencySample {
  readonly workPerSecond: number;
  readonly wasFull: boolean;
}

/** Doubling must bring a good part of a doubling; less is the noise of a link that is full. */
const CLIMB_GAIN = 1.25;
/** A try raises the limit by a quarter; a quarter of that in return is a gain. */
const TRY_GAIN = 1.06;
const TRY_PART = 4;
/** Windows between two tries: most of the time is spent at the best known limit. */
const HOLD_WINDOWS = 3;

/**
 * How often every place has to turn over in a window. Requests tend to run in waves, and a window that ends within one
 * misses a part of it: with these many waves that part is smaller than the gain looked for.
 */
export const WINDOW_ROUNDS: Readonly<Record<ConcurrencyState['phase'], number>> = { climb: 3, hold: 8, try: 8 };

/** The state at the start. @param limit within the bounds */
export function startingAt(limit: number): ConcurrencyState {
  return { phase: 'climb', limit, before: null, heldWindows: 0 };
}

/** The state after one measured window. A window that was not full teaches nothing. */
export function afterWindow(
  state: ConcurrencyState,
  sample: ConcurrencySample,
  bounds: ConcurrencyBounds,
): ConcurrencyState {
  if (!sample.wasFull) return state;
  const here = { limit: state.limit, workPerSecond: sample.workPerSecond };
  switch (state.phase) {
    case 'climb': {
      const isGain = state.before === null || here.workPerSecond >= state.before.workPerSecond * CLIMB_GAIN;
      if (!isGain && state.before !== null) return holdAt(state.before.limit);
      if (state.limit >= bounds.max) return holdAt(state.limit);
      return { phase: 'climb', limit: Math.min(bounds.max, state.limit * 2), before: here, heldWindows: 0 };
    }
    case 'hold': {
      const heldWindows = state.heldWindows + 1;
      if (heldWindows < HOLD_WINDOWS || state.limit >= bounds.max) return { ...state, heldWindows };
      const limit = Math.min(bounds.max, state.limit + Math.max(1, Math.floor(state.limit / TRY_PART)));
      return { phase: 'try', limit, before: here, heldWindows: 0 };
    }
    case 'try': {
      const isGain = state.before !== null && here.workPerSecond >= state.before.workPerSecond * TRY_GAIN;
      return holdAt(isGain || state.before === null ? state.limit : state.before.limit);
    }
  }
}

/** The state after the service asked for less or did not answer in time. */
export function afterPushback(state: ConcurrencyState, bounds: ConcurrencyBounds): ConcurrencyState {
  return holdAt(Math.max(bounds.min, Math.floor(state.limit / 2)));
}

function holdAt(limit: number): ConcurrencyState {
  return { phase: 'hold', limit, before: null, heldWindows: 0 };
}
