import { ArrivalEstimator, WINDOW_BEATS } from '@dumont/control-plane/detect/arrival.ts';
import { expect, test } from 'vitest';

function estimator() {
  return new ArrivalEstimator({ intervalMs: 200, clampMs: 400 });
}

/** Feeds beats sent every 200 ms that arrive after the given delays; the receiver's clock is 10,000 ms ahead. */
function feed(arrivals: ArrivalEstimator, delaysMs: readonly number[], firstIndex = 0): void {
  delaysMs.forEach((delayMs, index) => {
    const sentMs = (firstIndex + index) * 200;
    arrivals.observe(sentMs, sentMs + 10_000 + delayMs);
  });
}

test('before the first beat the expected gap is the interval', () => {
  expect(estimator().expectedGapMs()).toBe(200);
});

test('with equal delays the next beat is expected one interval after the last', () => {
  const arrivals = estimator();
  feed(arrivals, [30, 30, 30]);
  expect(arrivals.expectedGapMs()).toBe(200);
});

test('the expectation is the mean offset plus the next send time, as computed by hand', () => {
  const arrivals = estimator();
  feed(arrivals, [10, 20, 60]);
  // Mean delay 30; next sent at 600; expected at 10,630; the last came at 10,460.
  expect(arrivals.expectedGapMs()).toBeCloseTo(170, 9);
});

test('a late beat counts clamped, so it cannot buy later failures more than its share of the clamp', () => {
  const arrivals = estimator();
  feed(arrivals, [0, 0, 0, 3_000]);
  // Offsets above the clock difference: 0, 0, 0, 400. Mean 100; next sent at 800, the last came at 3,600.
  expect(arrivals.expectedGapMs()).toBeCloseTo(100 + 800 - 3_600, 9);
  feed(arrivals, [0], 19);
  // Offsets: 0, 0, 0, 400, 0. Mean 80.
  expect(arrivals.expectedGapMs()).toBeCloseTo(280, 9);
});

test('a send timer that drifts does not bias the expectation', () => {
  const arrivals = estimator();
  for (let beat = 0; beat < 1_000; beat += 1) {
    const sentMs = beat * 201.3;
    arrivals.observe(sentMs, sentMs + 25);
  }
  expect(arrivals.expectedGapMs()).toBeCloseTo(200, 6);
});

test('the window forgets beats older than its length', () => {
  const arrivals = estimator();
  feed(
    arrivals,
    Array.from({ length: 50 }, () => 300),
  );
  feed(
    arrivals,
    Array.from({ length: WINDOW_BEATS }, () => 20),
    50,
  );
  expect(arrivals.expectedGapMs()).toBeCloseTo(200, 6);
});

test('a sender whose clock started anew is learnt from its first beat', () => {
  const arrivals = estimator();
  for (let beat = 100; beat < 110; beat += 1) arrivals.observe(beat * 200, beat * 200 + 50);
  arrivals.observe(0, 40_000);
  expect(arrivals.expectedGapMs()).toBe(200);
  arrivals.observe(200, 40_200);
  expect(arrivals.expectedGapMs()).toBe(200);
});

test('a path that stays slower than the clamp for seconds becomes the new normal', () => {
  const arrivals = estimator();
  feed(arrivals, [0, 0, 0, 0]);
  feed(
    arrivals,
    Array.from({ length: 40 }, () => 2_000),
    4,
  );
  expect(arrivals.expectedGapMs()).toBeCloseTo(200, 6);
});
