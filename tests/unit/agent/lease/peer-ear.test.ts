import { LISTEN_EVERY_MS, PeerEar } from '@dumont/agent/lease/peer-ear.ts';
import { expect, test } from 'vitest';

const EPOCH = 2;

test('a standby tells when the last byte of its primary came', () => {
  const ear = new PeerEar();
  expect(ear.listen({ epoch: EPOCH, heardAtMs: null }, 1_000)).toBeNull();
  expect(ear.listen({ epoch: EPOCH, heardAtMs: 1_050 }, 1_100)).toEqual({ epoch: EPOCH, heardMsAgo: 50 });
  expect(ear.listen({ epoch: EPOCH, heardAtMs: 1_050 }, 1_200)).toEqual({ epoch: EPOCH, heardMsAgo: 150 });
});

test('time in which the standby could not listen is not called silence, until it hears again', () => {
  const ear = new PeerEar();
  ear.listen({ epoch: EPOCH, heardAtMs: 1_050 }, 1_100);
  const blockedMs = 3_000;
  let nowMs = 1_100 + LISTEN_EVERY_MS + blockedMs;
  expect(ear.listen({ epoch: EPOCH, heardAtMs: 1_050 }, nowMs)?.heardMsAgo).toBe(150);
  nowMs += LISTEN_EVERY_MS;
  expect(ear.listen({ epoch: EPOCH, heardAtMs: 1_050 }, nowMs)?.heardMsAgo).toBe(250);
  expect(ear.listen({ epoch: EPOCH, heardAtMs: nowMs }, nowMs + 100)?.heardMsAgo).toBe(100);
});
