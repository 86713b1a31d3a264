import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { ChunkDoor } from '@dumont/agent/peer/chunk-door.ts';
import { ChunkCoder } from '@dumont/agent/snapshot/planes/chunk-coder.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { dialHolder, dialStandby, serverFor, type ReaderKey } from '@dumont/agent/sync/secure-socket.ts';
import { SyncReceiver } from '@dumont/agent/sync/sync-receiver.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { decodeToHolder, type ToHolder } from '@dumont/shared/protocol/chunk-serving.ts';
import { putChunkHeader, SYNC_CHUNK_HEADER_BYTES } from '@dumont/shared/protocol/sync.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { created, openEngine, type Engine } from '../../../world/engine.ts';
import { differences, makeTree, seeTree, type TreeNode } from '../../../world/tree.ts';

const MIB = 1_048_576;
const log = createLogger('peer-test', 'silent');
const WORKSPACE = newId('workspace');
const READER: ReaderKey = { workspaceId: WORKSPACE, token: 'a token of one move 01' };
const SYNC = { workspaceId: WORKSPACE, epoch: 3, token: 'a token for tests 0001' };

/** A snapshot of some 24 MiB in a store, and a standby that has the same files. */
async function snapshotAndStandby(engine: Engine) {
  const large = (name: string): [string, TreeNode] => [name, { kind: 'file', content: randomBytes(6 * MIB) }];
  const text: TreeNode = { kind: 'file', content: Buffer.alloc(2 * MIB, 'log line, again and again\n') };
  await makeTree(engine.root, { ...Object.fromEntries(['a', 'b', 'c', 'd'].map(large)), 'logs/text': text });
  const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
  const standby = `${engine.root}-standby`;
  await cp(engine.root, standby, { recursive: true, preserveTimestamps: true });
  return { record, standby };
}

async function openStandby(standby: string) {
  const door = new ChunkDoor({ log });
  door.admit(READER);
  const stateDir = `${standby}-state`;
  await mkdir(stateDir);
  const receiver = await SyncReceiver.listen(
    { root: standby, stateDir, key: SYNC, host: '127.0.0.1', port: 0, door, clock: systemClock, log },
    AbortSignal.any([]),
  );
  const { port } = receiver;
  return {
    door,
    receiver,
    port,
    peer: { ...READER, url: `wss://127.0.0.1:${port}` },
    [Symbol.asyncDispose]: async () => {
      await receiver[Symbol.asyncDispose]();
      await door[Symbol.asyncDispose]();
    },
  };
}

/** A store that takes its time for all but the small reads of a manifest. */
function slowStore(engine: Engine, delay: () => Promise<void>): ObjectStore {
  const { store } = engine;
  return {
    put: (key, bytes, options) => store.put(key, bytes, options),
    get: async (key, options) => {
      if ((options?.range?.length ?? 0) > 256 * 1024) await delay();
      return store.get(key, options);
    },
    stat: (key, options) => store.stat(key, options),
    list: (prefix, options) => store.list(prefix, options),
    delete: (key, options) => store.delete(key, options),
  };
}

const stalled = (engine: Engine) => slowStore(engine, () => new Promise(() => {}));

async function expectRestored(engine: Engine): Promise<void> {
  expect(differences(await seeTree(engine.root), await seeTree(engine.target))).toEqual([]);
}

/** A peer that knows the key and answers as it likes. */
async function hostilePeer(answer: (message: ToHolder, socket: WebSocket) => void) {
  const { server, roleOf } = serverFor({ sync: null, reader: () => READER });
  const upgrader = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => {
    expect(roleOf(request.socket)).toBe('reader');
    upgrader.handleUpgrade(request, socket, head, (opened) => {
      opened.on('message', (data) => answer(decodeToHolder((data as Buffer).toString()), opened));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    peer: { ...READER, url: `wss://127.0.0.1:${(server.address() as AddressInfo).port}` },
    [Symbol.asyncDispose]: async () => {
      for (const socket of upgrader.clients) socket.terminate();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

test('what a stalled store does not give comes from the standby, byte for byte', async () => {
  await using engine = await openEngine();
  const { record, standby } = await snapshotAndStandby(engine);
  await using held = await openStandby(standby);
  const outcome = await engine.restore(record, { store: stalled(engine), peer: held.peer });
  await expectRestored(engine);
  expect(outcome.bytesFromPeer).toBeGreaterThan(24 * MIB);
});

test('what the standby does not have any more comes from the store', async () => {
  await using engine = await openEngine();
  const { record, standby } = await snapshotAndStandby(engine);
  // One is known to be gone, the other was changed behind the back of what is known of it.
  await rm(join(standby, 'a'));
  await using held = await openStandby(standby);
  await writeFile(join(standby, 'b'), randomBytes(6 * MIB));
  await engine.restore(record, { peer: held.peer });
  await expectRestored(engine);
});

test('a standby that became primary serves on from its own port, and nobody once the move is over', async () => {
  await using engine = await openEngine();
  const { record, standby } = await snapshotAndStandby(engine);
  await using held = await openStandby(standby);
  await held.receiver[Symbol.asyncDispose]();
  await held.door.listen('127.0.0.1', held.port);
  await engine.restore(record, { store: stalled(engine), peer: held.peer });
  await expectRestored(engine);
  held.door.admit(null);
  await expect(once(dialHolder(held.peer.url, READER), 'open')).rejects.toThrow();
});

test('a reader can do nothing but read, and nobody reads without the key of the move', async () => {
  await using engine = await openEngine();
  const { standby } = await snapshotAndStandby(engine);
  await using held = await openStandby(standby);
  const { url } = held.peer;
  const strangers = [
    dialHolder(url, { ...READER, token: 'a token of another one' }),
    // The keys of one are not those of the other, though they be the same words.
    dialHolder(url, { ...READER, token: SYNC.token }),
    dialStandby(url, { ...SYNC, token: READER.token }),
  ];
  for (const stranger of strangers) await expect(once(stranger, 'open')).rejects.toThrow();
  const reader = dialHolder(url, READER);
  await once(reader, 'open');
  reader.send(JSON.stringify({ kind: 'hello', version: 1, workspaceId: WORKSPACE, epoch: 3 }));
  await once(reader, 'close');
  const path = new URL(url);
  path.pathname = '/elsewhere';
  await expect(once(dialHolder(path.href, READER), 'open')).rejects.toThrow();
});

const coder = new ChunkCoder({ secrets: null, effort: 'fast' });

/** A frame that decodes well, to bytes that are not what the id says. */
function lie({ request, chunks }: Extract<ToHolder, { kind: 'get' }>, socket: WebSocket): void {
  for (const [index, [chunkId, rawLength]] of chunks.entries()) {
    const { frame, codec } = coder.encode(randomBytes(rawLength));
    const header = Buffer.alloc(SYNC_CHUNK_HEADER_BYTES);
    putChunkHeader(header, { stage: request, offset: index, chunkId, rawLength, codec });
    socket.send(Buffer.concat([header, frame]));
  }
  socket.send(JSON.stringify({ kind: 'done', request }));
}

test.each<[string, (message: ToHolder, socket: WebSocket) => void]>([
  ['sends other bytes than the ids say', (message, socket) => message.kind === 'get' && lie(message, socket)],
  [
    'says that it is done without having sent anything',
    ({ request }, socket) => socket.send(`{"kind":"done","request":${request}}`),
  ],
  ['sends noise', (_message, socket) => socket.send(randomBytes(100_000))],
  ['hangs up', (_message, socket) => socket.terminate()],
  ['says nothing', () => {}],
])('a peer that %s costs time only', async (_what, answer) => {
  await using engine = await openEngine();
  const { record } = await snapshotAndStandby(engine);
  let asked = 0;
  await using hostile = await hostilePeer((message, socket) => {
    asked += 1;
    answer(message, socket);
  });
  // Slow enough for the peer to be asked at all.
  const store = slowStore(engine, () => systemClock.sleep(1_500));
  await engine.restore(record, { store, peer: hostile.peer });
  await expectRestored(engine);
  expect(asked).toBeGreaterThan(0);
});
