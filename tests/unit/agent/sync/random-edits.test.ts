import { setTimeout as sleep } from 'node:timers/promises';
import { readdirSync } from 'node:fs';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { makeCuttingProxy } from '../../../world/cutting-proxy.ts';
import { editAtRandom } from '../../../world/random-edits.ts';
import { SyncReceiverProcess } from '../../../world/sync-receiver-process.ts';
import { makeSyncPair } from '../../../world/sync-pair.ts';

const SEEDS = [1, 2, 3];

test.for(SEEDS)('after random edits both trees are equal, with seed %i', { timeout: 120_000 }, async (seed) => {
  const random = seededRandom(seed);
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  await pair.startSender();
  for (let round = 0; round < 6; round += 1) {
    for (let edit = 0; edit < 40; edit += 1) {
      editAtRandom(pair.primary, random);
      // Edits of a program are some time apart, or none.
      if (random.next() < 0.3) await sleep(random.next() * 30);
    }
    await pair.settled(30_000);
    expect(pair.sender.state.watermark).toEqual(pair.receiver.watermark);
  }
});

test.for(SEEDS)(
  'connections cut at random bytes lose and spoil nothing, with seed %i',
  { timeout: 120_000 },
  async (seed) => {
    const random = seededRandom(seed);
    await using pair = await makeSyncPair();
    await pair.startReceiver();
    await using proxy = await makeCuttingProxy(() => pair.receiver.port);
    for (let edit = 0; edit < 60; edit += 1) editAtRandom(pair.primary, random);
    await pair.startSender(`wss://127.0.0.1:${proxy.port}`);
    for (let round = 0; round < 6; round += 1) {
      proxy.cutAfter(1_000 + random.next() * 1_500_000);
      for (let edit = 0; edit < 25; edit += 1) editAtRandom(pair.primary, random);
      await sleep(100);
    }
    proxy.cutAfter(Infinity);
    await pair.settled(30_000);
  },
);

test.for(SEEDS)(
  'a receiver killed at any moment leaves whole files and goes on, with seed %i',
  { timeout: 120_000 },
  async (seed) => {
    const random = seededRandom(seed);
    await using pair = await makeSyncPair();
    const { key, stateDir, standby: root } = pair;
    let receiver = await SyncReceiverProcess.start({ root, stateDir, key, host: '127.0.0.1', port: 0 });
    const { port } = receiver;
    await pair.startSender(`wss://127.0.0.1:${port}`);
    for (let round = 0; round < 3; round += 1) {
      for (let edit = 0; edit < 60; edit += 1) editAtRandom(pair.primary, random);
      await sleep(random.next() * 200);
      await receiver.kill();
      receiver = await SyncReceiverProcess.start({ root, stateDir, key, host: '127.0.0.1', port });
    }
    await pair.settled(30_000);
    await receiver.kill();
    expect(readdirSync(root, { recursive: true }).filter((path) => String(path).includes('.dumont-tmp-'))).toEqual([]);
  },
);
