import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { OrderWriter } from './order-writer.ts';
import type { WriterOrder, WriterSetup } from './orders.ts';
import { releaseBuffers } from '../workers/release-buffers.ts';

/** Entry of a restoring thread: an {@link OrderWriter} behind the port of the pool that started it. */
const port = must(parentPort, 'a restoring thread is a worker');
const writer = new OrderWriter(workerData as WriterSetup, systemClock);

port.on('message', (order: WriterOrder) => {
  const answer = writer.follow(order);
  if (order.type !== 'compare') releaseBuffers(order.buffers);
  port.postMessage(answer);
});
