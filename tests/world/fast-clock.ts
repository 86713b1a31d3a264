import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';

/** Real time, `factor` times as fast: pauses of seconds cost a test milliseconds. */
export function fastClock(factor: number): Clock {
  const wallStartMs = systemClock.nowMs();
  const startMs = systemClock.monotonicMs();
  const elapsedMs = () => (systemClock.monotonicMs() - startMs) * factor;
  return {
    nowMs: () => Math.floor(wallStartMs + elapsedMs()),
    monotonicMs: elapsedMs,
    sleep: (ms, signal) => systemClock.sleep(ms / factor, signal),
    after: (ms, callback) => systemClock.after(ms / factor, callback),
    every: (ms, callback) => systemClock.every(ms / factor, callback),
  };
}
