import fc from 'fast-check';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import { Bell } from '@dumont/shared/util/bell.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

const policy = { baseMs: 200, capMs: 5_000 };

test('a backoff stays inside its growing window and never spins', () => {
  fc.assert(
    fc.property(fc.nat(1_000), fc.integer(), (attempt, seed) => {
      const delayMs = backoffMs(attempt, policy, seededRandom(seed));
      expect(delayMs).toBeGreaterThanOrEqual(20);
      expect(delayMs).toBeLessThanOrEqual(Math.min(5_000, 200 * 2 ** attempt));
    }),
  );
  expect(backoffMs(20, policy, { next: () => 0.999 })).toBeCloseTo(4_995);
});

test('a ring wakes everybody who waits, and nobody who comes later', async () => {
  const bell = new Bell();
  const clock = new ManualClock();
  const signal = new AbortController().signal;
  let woken = 0;
  const wait = () => bell.wait({ clock, atMostMs: 100, signal }).then(() => (woken += 1));
  const first = [wait(), wait()];
  bell.ring();
  const late = wait();
  await Promise.all(first);
  expect(woken).toBe(2);
  await clock.advance(99);
  expect(woken).toBe(2);
  await clock.advance(1);
  await late;
  expect(woken).toBe(3);
});

test('waiting for the bell ends with the signal and leaves no timer behind', async () => {
  const bell = new Bell();
  const control = new AbortController();
  let timers = 0;
  const clock = new (class extends ManualClock {
    override after(ms: number, callback: () => void): () => void {
      timers += 1;
      const cancel = super.after(ms, callback);
      return () => {
        timers -= 1;
        cancel();
      };
    }
  })();
  const waiting = bell.wait({ clock, atMostMs: 100, signal: control.signal });
  control.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  await expect(bell.wait({ clock, atMostMs: 100, signal: control.signal })).rejects.toThrow('enough');
  expect(timers).toBe(0);
});

test.each([
  [0, '0 B'],
  [1_023, '1023 B'],
  [1_024, '1.0 KiB'],
  [1_572_864, '1.5 MiB'],
  [1_048_550, '1.0 MiB'],
  [123 * 1_048_576, '123 MiB'],
  [4 * 2 ** 30, '4.0 GiB'],
  [5_000 * 2 ** 40, '5000 TiB'],
])('%i bytes are %s', (bytes, expected) => {
  expect(formatBytes(bytes)).toBe(expected);
});

test.each([
  [0, '0 ms'],
  [640.4, '640 ms'],
  [999.6, '1.0 s'],
  [4_200, '4.2 s'],
  [59_960, '1 min 00 s'],
  [185_000, '3 min 05 s'],
  [7_620_000, '2 h 07 min'],
])('%f ms are %s', (ms, expected) => {
  expect(formatDuration(ms)).toBe(expected);
});

test('no amount of bytes has 1024 of a unit that has a next one', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 2 ** 49, noNaN: true }), (bytes) => {
      expect(formatBytes(Math.round(bytes))).not.toMatch(/^1024/);
    }),
  );
});

test('no duration has sixty seconds or minutes in it', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), (ms) => {
      expect(formatDuration(ms)).not.toMatch(/\b60(?:\.0)? (?:s|min)|\b1000 ms/);
    }),
  );
});
