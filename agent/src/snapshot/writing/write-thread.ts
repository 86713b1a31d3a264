import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import type { FileRead } from '../file-reader.ts';
import type { ChunkLocation } from '../pack-writer.ts';
import { ChunkCoder } from '../planes/chunk-coder.ts';
import { ChunkIds } from './chunk-ids.ts';
import { SharedClaims } from './chunk-claims.ts';
import { ChunkWriter, type PackOutlet } from './chunk-writer.ts';
import { FileWorker } from './file-worker.ts';
import {
  packLocations,
  packReads,
  type WriteOrder,
  type WriteReport,
  type WriteTask,
  type WriteTaskResult,
  type WriteThreadData,
} from './write-messages.ts';

/** So much is read before it is told: a few reports a second at full speed. */
const PROGRESS_BYTES = 32 * 1024 * 1024;

/**
 * Entry of a write thread: reads the files it is given and writes their chunks into packs, everything but the upload. It
 * blocks its event loop while it works and turns it where it needs a buffer.
 */
const port = must(parentPort, 'a write thread is a worker');
const { coding, claims } = workerData as WriteThreadData;

/** Those who asked for a buffer. */
const bufferWaiters: ((buffer: ArrayBuffer) => void)[] = [];
let located: ChunkLocation[] = [];
let readBytes = 0;

function post(report: WriteReport, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(report, transfer);
}

function takeLocated() {
  const packed = packLocations(located);
  located = [];
  return packed;
}

const outlet: PackOutlet = {
  send: ({ packId, buffer, length }) => {
    post({ type: 'pack', packId, buffer, length, located: takeLocated() }, [buffer]);
  },
  takeBuffer: async () => {
    post({ type: 'need-buffer' });
    return new Promise((resolve) => bufferWaiters.push(resolve));
  },
};

const ids = new ChunkIds(coding.secrets);
const writer = new ChunkWriter(new ChunkCoder(coding), new SharedClaims(claims), {
  outlet,
  onLocated: (location) => located.push(location),
});
const worker = new FileWorker({
  ids,
  writer,
  clock: systemClock,
  onBytes: (byteCount) => {
    readBytes += byteCount;
    if (readBytes >= PROGRESS_BYTES) reportProgress();
  },
});

function reportProgress(): void {
  post({ type: 'progress', readBytes });
  readBytes = 0;
}

async function perform(task: WriteTask): Promise<WriteTaskResult> {
  if (task.type === 'part') return { type: 'part', chunkIds: await worker.readPart(task.part) };
  const reads: FileRead[] = [];
  for (const file of task.files) reads.push(await worker.readFile(file));
  return { type: 'files', reads: packReads(reads) };
}

async function follow(order: Exclude<WriteOrder, { readonly type: 'buffer' }>): Promise<void> {
  switch (order.type) {
    case 'task': {
      const result = await perform(order.task);
      reportProgress();
      post({ type: 'done', result, located: takeLocated() });
      break;
    }
    case 'claims':
      writer.setClaims(new SharedClaims(order.claims));
      break;
    case 'flush':
      writer.flush();
      post({ type: 'flushed' });
      break;
  }
}

/** Orders are followed one by one; one that fails ends the thread with its error. */
let last: Promise<void> = Promise.resolve();
port.on('message', (order: WriteOrder) => {
  if (order.type === 'buffer') must(bufferWaiters.shift(), 'a buffer was asked for')(order.buffer);
  else last = last.then(() => follow(order));
});
