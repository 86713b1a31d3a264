import { randomBytes } from 'node:crypto';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChunkDoor } from '@dumont/agent/peer/chunk-door.ts';
import { PacedStore } from '@dumont/agent/storage/paced-store.ts';
import { SyncReceiver } from '@dumont/agent/sync/sync-receiver.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { created, openEngine } from '../world/engine.ts';

/**
 * `npm run bench:two-sources`: restoring incompressible data from a store that gives so much a second, with a standby and
 * without. The standby runs in the same process, so its share is a lower bound.
 */

const MB = 1_000_000;
const TOTAL_BYTES = 1_000 * MB;
const FILE_BYTES = 50 * MB;
const STORE_BYTES_PER_SECOND = [10 * MB, 40 * MB];

const log = createLogger('bench', 'silent');
await using engine = await openEngine();
for (let at = 0; at < TOTAL_BYTES; at += FILE_BYTES)
  await writeFile(join(engine.root, `f${at}`), randomBytes(FILE_BYTES));
const record = created(await engine.snapshotter.create({ epoch: 1, parent: null }));
const standby = `${engine.root}-standby`;
await cp(engine.root, standby, { recursive: true, preserveTimestamps: true });
const stateDir = `${engine.root}-state`;
await mkdir(stateDir);
const reader = { workspaceId: newId('workspace'), token: 'a token for this bench' };
await using door = new ChunkDoor({ log });
door.admit(reader);
const key = { ...reader, epoch: 1, token: 'a token for its sync' };
const options = { root: standby, stateDir, key, host: '127.0.0.1', port: 0, door, clock: systemClock, log };
await using receiver = await SyncReceiver.listen(options, AbortSignal.any([]));
const peer = { ...reader, url: `wss://127.0.0.1:${receiver.port}` };

for (const rate of STORE_BYTES_PER_SECOND) {
  for (const [name, from] of [
    ['the store alone', undefined],
    ['store and standby', peer],
  ] as const) {
    const store = new PacedStore(engine.store, { downloadBytesPerSecond: rate }, systemClock);
    const { totalMs, bytesFetched, bytesFromPeer } = await engine.restore(record, { store, peer: from });
    const parts = `store ${Math.round(bytesFetched / MB)} MB, standby ${Math.round(bytesFromPeer / MB)} MB`;
    process.stdout.write(`${rate / MB} MB/s, ${name}: ${(totalMs / 1_000).toFixed(1)} s (${parts})\n`);
    await rm(engine.target, { recursive: true });
  }
}
