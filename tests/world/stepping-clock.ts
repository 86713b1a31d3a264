import { systemClock, type Clock } from '@dumont/shared/util/clock.ts';

/** The real clock, whose wall time can be put forward: what expires does so at once, and sockets still have their time. */
export interface SteppingClock extends Clock {
  step(ms: number): void;
}

export function steppingClock(): SteppingClock {
  let aheadMs = 0;
  return {
    ...systemClock,
    nowMs: () => systemClock.nowMs() + aheadMs,
    step: (ms) => void (aheadMs += ms),
  };
}
