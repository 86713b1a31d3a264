import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dialStandby } from '@dumont/agent/sync/secure-socket.ts';
import { SyncReceiver } from '@dumont/agent/sync/sync-receiver.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { decodeToPrimary, SYNC_PROTOCOL_VERSION, type SyncOp, type ToPrimary } from '@dumont/shared/protocol/sync.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { eventually } from '../../../world/eventually.ts';
import { makeSyncPair, type SyncPair } from '../../../world/sync-pair.ts';

const META = { mode: 0o644, uid: 0, gid: 0, mtimeNs: '0' };

/** A peer that knows the key and says what it likes. */
async function dial(pair: SyncPair, hello: object = {}) {
  const socket = dialStandby(`wss://127.0.0.1:${pair.receiver.port}`, pair.key);
  const messages: ToPrimary[] = [];
  socket.on('message', (data) => messages.push(decodeToPrimary((data as Buffer).toString())));
  socket.on('error', () => {});
  await once(socket, 'open');
  const { workspaceId, epoch } = pair.key;
  socket.send(JSON.stringify({ kind: 'hello', version: SYNC_PROTOCOL_VERSION, workspaceId, epoch, ...hello }));
  const refusal = () =>
    eventually('it is refused', () => messages.find((one) => one.kind === 'refused') as { code: string } | undefined);
  return { socket, messages, refusal };
}

async function codeFor(pair: SyncPair, ...ops: readonly SyncOp[]): Promise<string> {
  const peer = await dial(pair);
  const seq = pair.receiver.watermark.seq + 1;
  peer.socket.send(JSON.stringify({ kind: 'batch', seq, ops, hash: '0'.repeat(64) }));
  return (await peer.refusal()).code;
}

test('nobody gets in without the token', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  const url = `wss://127.0.0.1:${pair.receiver.port}`;
  for (const key of [
    { ...pair.key, token: 'another token 00000001' },
    { ...pair.key, epoch: 2 },
  ]) {
    const socket = dialStandby(url, key);
    await expect(once(socket, 'open')).rejects.toThrow();
  }
});

test('a folder that a higher epoch wrote to is not given to a lower one', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  await pair.stopReceiver();
  const key = { ...pair.key, epoch: 2 };
  const options = { root: pair.standby, stateDir: pair.stateDir, key, host: '127.0.0.1', port: 0 };
  const parts = { clock: systemClock, log: createLogger('test', 'silent') };
  const listening = SyncReceiver.listen({ ...options, ...parts }, AbortSignal.any([]));
  await expect(listening).rejects.toMatchObject({ code: 'STALE_EPOCH' });
});

test('once a higher epoch was heard the sender is cut off and stays out', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  await pair.startSender();
  writeFileSync(join(pair.primary, 'before'), 'before');
  await pair.settled();
  pair.receiver.hearEpoch(4);
  writeFileSync(join(pair.primary, 'after'), 'after');
  await eventually('it is cut off', () => !pair.sender.state.isConnected);
  const peer = await dial(pair);
  expect((await peer.refusal()).code).toBe('STALE_EPOCH');
  expect(existsSync(join(pair.standby, 'after'))).toBe(false);
});

test('a peer cannot write outside the folder, nor through a link in it', async () => {
  await using pair = await makeSyncPair();
  mkdirSync(join(pair.standby, '../elsewhere'));
  symlinkSync('../elsewhere', join(pair.standby, 'link'));
  await pair.startReceiver();
  for (const path of ['../x', '/x', 'a/../../x', 'link/x', 'missing/x', '.dumont-tmp-x', 'a\0b', '.']) {
    expect(await codeFor(pair, { op: 'dir', path, meta: META })).toBe('PROTOCOL');
  }
  expect(readdirSync(join(pair.standby, '../elsewhere'))).toEqual([]);
});

test('operations that do not fit the tree are refused and change nothing', async () => {
  await using pair = await makeSyncPair();
  mkdirSync(join(pair.standby, 'folder'));
  writeFileSync(join(pair.standby, 'file'), 'file');
  await pair.startReceiver();
  const { hash } = pair.receiver.watermark;
  const content = { size: 5, chunks: [['0'.repeat(64), 5] as [string, number]], holes: [] };
  const chunks: [string, number][] = [['1'.repeat(64), 1]];
  for (const op of [
    { op: 'file', path: 'folder', meta: META, content, group: 0, links: [] },
    { op: 'symlink', path: 'folder', meta: META, target: 'x' },
    { op: 'dir', path: 'file', meta: META },
    { op: 'meta', path: 'folder', meta: META },
    { op: 'link', path: 'x', target: 'folder', group: 1 },
    { op: 'rename', from: 'folder', to: 'folder/below' },
    { op: 'rename', from: 'none', to: 'x' },
    { op: 'staged', path: 'x', meta: META, stage: 9, size: 1, holes: [], group: 0, links: [] },
    { op: 'append', path: 'file', meta: META, keep: 0, chunks, tail: chunks, size: 5 },
  ] satisfies SyncOp[]) {
    expect(await codeFor(pair, op)).toBe('PROTOCOL');
  }
  const missing = await codeFor(pair, { op: 'file', path: 'x', meta: META, content, group: 0, links: [] });
  expect(missing).toBe('CORRUPT');
  expect(pair.receiver.watermark.hash).toBe(hash);
  expect(readdirSync(pair.standby).toSorted()).toEqual(['file', 'folder']);
});

test('frames of any bytes end the session and nothing else', async () => {
  await using pair = await makeSyncPair();
  await pair.startReceiver();
  const random = seededRandom(7);
  for (let round = 0; round < 60; round += 1) {
    const peer = await dial(pair);
    const bytes = randomBytes(Math.floor(random.next() * 300));
    if (round % 3 === 0) peer.socket.send(bytes.toString('latin1'));
    else if (round % 3 === 1) peer.socket.send(bytes);
    else peer.socket.send(`{"kind":"batch","seq":${round},"ops":[{"op":"${bytes.toString('hex')}"}]}`);
    expect(['PROTOCOL', 'CORRUPT', 'LIMIT']).toContain((await peer.refusal()).code);
  }
  writeFileSync(join(pair.primary, 'file'), 'still works');
  await pair.startSender();
  await pair.settled();
});
