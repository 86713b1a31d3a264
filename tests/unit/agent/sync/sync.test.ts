import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { eventually } from '../../../world/eventually.ts';
import { makeSyncPair } from '../../../world/sync-pair.ts';

test('a tree with everything in it arrives as it is', async () => {
  await using pair = await makeSyncPair();
  const at = (path: string) => join(pair.primary, path);
  mkdirSync(at('a/b/c'), { recursive: true });
  mkdirSync(at('empty'));
  writeFileSync(at('a/one.txt'), 'one');
  writeFileSync(at('a/none'), '');
  writeFileSync(at('a/b/large.bin'), randomBytes(9_000_000));
  writeFileSync(at('a/b/c/medium.bin'), randomBytes(900_000), { mode: 0o640 });
  linkSync(at('a/one.txt'), at('a/b/linked.txt'));
  symlinkSync('../one.txt', at('a/b/symbolic'));
  writeFileSync(at('sparse'), 'x');
  truncateSync(at('sparse'), 40_000_000);
  await pair.startReceiver();
  await pair.startSender();
  await pair.settled();
  expect(pair.sender.state.watermark).toEqual(pair.receiver.watermark);
});

test('a standby that needs nothing is complete once that was found', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  await pair.startSender();
  await pair.settled();
  expect(pair.sender.state).toMatchObject({ isInitial: false, pendingMs: 0, sentBytes: expect.any(Number) });
});

test('edits, appends, renames and removals arrive', async () => {
  await using pair = await makeSyncPair();
  const at = (path: string) => join(pair.primary, path);
  const large = randomBytes(8_000_000);
  mkdirSync(at('folder/deep'), { recursive: true });
  writeFileSync(at('folder/deep/file'), 'content');
  writeFileSync(at('large.bin'), large);
  writeFileSync(at('log'), 'x'.repeat(10_000));
  await pair.startReceiver();
  await pair.startSender();
  await pair.settled();
  const sentBefore = pair.sender.state.sentBytes;
  appendFileSync(at('log'), 'more\n');
  appendFileSync(at('large.bin'), 'more');
  renameSync(at('folder'), at('moved'));
  writeFileSync(at('new'), 'new');
  await pair.settled();
  expect(pair.sender.state.sentBytes - sentBefore).toBeLessThan(50_000);
  large[5_000_000] = (large[5_000_000] ?? 0) + 1;
  writeFileSync(at('large.bin'), large);
  rmSync(at('moved'), { recursive: true });
  rmSync(at('log'));
  mkdirSync(at('log'));
  await pair.settled();
  expect(readFileSync(join(pair.standby, 'large.bin')).equals(large)).toBe(true);
});

test('a standby that was away gets what it missed, and only that', async () => {
  await using pair = await makeSyncPair();
  const at = (path: string) => join(pair.primary, path);
  for (let index = 0; index < 50; index += 1) writeFileSync(at(`file-${index}`), randomBytes(100_000));
  await pair.startReceiver();
  await pair.startSender();
  await pair.settled();
  const sentBefore = pair.sender.state.sentBytes;
  await pair.stopReceiver();
  writeFileSync(at('file-7'), 'changed');
  writeFileSync(join(pair.standby, 'file-9'), 'spoilt');
  rmSync(at('file-8'));
  await pair.startReceiver();
  await pair.settled();
  expect(pair.sender.state.sentBytes - sentBefore).toBeLessThan(250_000);
});

test('a standby hears an idle primary all the time, and no longer when it is gone', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  expect(pair.receiver.heardAtMs).toBeNull();
  await pair.startSender();
  await pair.settled();
  const silenceMs = () => systemClock.monotonicMs() - (pair.receiver.heardAtMs ?? 0);
  for (let sign = 0; sign < 3; sign += 1) {
    const before = pair.receiver.heardAtMs;
    await eventually('another sign of life', () => Promise.resolve(pair.receiver.heardAtMs !== before));
  }
  await pair.stopSender();
  await eventually('the primary is silent', () => Promise.resolve(silenceMs() > 500));
});

test('a file that grew by megabytes arrives as it is', async () => {
  await using pair = await makeSyncPair();
  const path = join(pair.primary, 'growing.bin');
  writeFileSync(path, randomBytes(2_000_000));
  await pair.startReceiver();
  await pair.startSender();
  await pair.settled();
  appendFileSync(path, randomBytes(7_500_000));
  await pair.settled();
  expect(pair.sender.state.watermark).toEqual(pair.receiver.watermark);
});

test('what waits for a standby that is away is counted in bytes', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  await pair.startSender();
  await pair.settled();
  await pair.stopReceiver();
  writeFileSync(join(pair.primary, 'one'), randomBytes(300_000));
  await eventually('the first is counted', () => pair.sender.state.pendingBytes >= 300_000);
  appendFileSync(join(pair.primary, 'one'), randomBytes(200_000));
  await eventually('what is added is counted', () => pair.sender.state.pendingBytes >= 500_000);
  await pair.startReceiver();
  await pair.settled();
  expect(pair.sender.state.pendingBytes).toBe(0);
});
