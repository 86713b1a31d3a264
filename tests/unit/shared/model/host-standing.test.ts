import { standingOfHost, wilsonBounds } from '@dumont/shared/model/host-standing.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';

const DAY_MS = 86_400_000;

test.each([1, 2, 3])('%d failures and no success are not enough to blacklist a host', (failed) => {
  expect(standingOfHost({ ready: 0, failed, lastFailedAtMs: 1_000 }, 2_000).blacklistedUntilMs).toBeNull();
});

test('after four failures and no success a host is not tried for a week, and then again', () => {
  const record = { ready: 0, failed: 4, lastFailedAtMs: 1_000 };
  expect(standingOfHost(record, 2_000)).toMatchObject({ successRate: 0, blacklistedUntilMs: 1_000 + 7 * DAY_MS });
  expect(standingOfHost(record, 1_000 + 7 * DAY_MS).blacklistedUntilMs).toBeNull();
});

test('a host that comes up more often than three times in ten is never blacklisted', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.nat(200), (ready, failed) => {
      fc.pre(ready + failed > 0 && ready / (ready + failed) >= 0.3);
      expect(standingOfHost({ ready, failed, lastFailedAtMs: 0 }, 1).blacklistedUntilMs).toBeNull();
    }),
  );
});

test('the bounds hold the share between them, within 0 and 1, and close in with every machine', () => {
  fc.assert(
    fc.property(fc.nat(500), fc.nat(500), (hits, misses) => {
      const [lower, upper] = wilsonBounds(hits, hits + misses);
      const share = hits + misses === 0 ? 0.5 : hits / (hits + misses);
      expect(lower).toBeGreaterThanOrEqual(0);
      expect(lower).toBeLessThanOrEqual(share + 1e-12);
      expect(upper).toBeGreaterThanOrEqual(share - 1e-12);
      expect(upper).toBeLessThanOrEqual(1);
      const [nearer, further] = wilsonBounds(hits * 2, (hits + misses) * 2);
      expect(further - nearer).toBeLessThanOrEqual(upper - lower);
    }),
  );
  expect(wilsonBounds(8, 10).map((bound) => Math.round(bound * 1_000))).toEqual([602, 914]);
});
