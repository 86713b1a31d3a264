import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@dumont/shared/util/assert.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { ChunkCoder, type CodingOptions } from '../snapshot/planes/chunk-coder.ts';
import type { CodecAnswer, CodecOrder } from './codec-messages.ts';

/** Entry of a codec thread: a {@link ChunkCoder} behind the port of the pool that started it. */
const port = must(parentPort, 'a codec thread is a worker');
const coder = new ChunkCoder(workerData as CodingOptions);

port.on('message', (order: CodecOrder) => {
  const answer = follow(order);
  port.postMessage(answer, transferable(answer));
});

function follow(order: CodecOrder): CodecAnswer {
  if (order.type === 'encode') return { type: 'encoded', chunk: coder.encode(order.raw) };
  try {
    return { type: 'decoded', raw: coder.decode(order.frame, order.expected) };
  } catch (error) {
    if (!isDumontError(error, 'CORRUPT')) throw error;
    return { type: 'refused', message: error.message };
  }
}

/** The bytes of an answer, where nothing else lies in their buffer. */
function transferable(answer: CodecAnswer): ArrayBuffer[] {
  if (answer.type === 'refused') return [];
  const bytes = answer.type === 'encoded' ? answer.chunk.frame : answer.raw;
  return bytes.buffer instanceof ArrayBuffer && bytes.length * 2 > bytes.buffer.byteLength ? [bytes.buffer] : [];
}
