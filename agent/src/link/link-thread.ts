import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { BeatBoard } from './beat-board.ts';
import { LinkRunner } from './link-runner.ts';
import type { FromLink, LinkThreadData, ToLink } from './thread-messages.ts';

/** Entry of the link thread: a {@link LinkRunner} on this thread's own event loop, wired to the main thread's port. */
const port = must(parentPort, 'the link thread is a worker');
const data = workerData as LinkThreadData;

const runner = new LinkRunner({
  url: data.url,
  hello: data.hello,
  board: new BeatBoard(data.boardBuffer),
  clock: systemClock,
  random: systemRandom,
  emit: (event: FromLink) => {
    port.postMessage(event);
    if (event.type === 'ended') port.close();
  },
});

port.on('message', (order: ToLink) => {
  switch (order.type) {
    case 'send':
      runner.send(order.message);
      break;
    case 'credential':
      runner.useCredential(order.credential);
      break;
    case 'stop':
      runner.stop(order.reason);
      break;
  }
});
runner.start();
