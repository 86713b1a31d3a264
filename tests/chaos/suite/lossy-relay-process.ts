import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { systemClock as clock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import type { Weather } from './lossy-relay.ts';

/**
 * Relays a port of loopback as a bad wire would; the port goes out by IPC, the weather comes in by it. TCP hides a lost packet
 * behind a pause: what comes after it waits until it was sent again, after a timeout of at least 200 ms and a round trip.
 */
const targetPort = Number(process.argv[2]);
const LEAST_TIMEOUT_MS = 200;
const random = seededRandom(1);
let weather: Weather = { delayMs: 0, lossShare: 0 };

function relay(from: Socket, to: Socket): void {
  let freeAtMs = 0;
  const inTurn = (deliver: () => void) => {
    const isLost = random.next() < weather.lossShare;
    const resendMs = isLost ? LEAST_TIMEOUT_MS + 2 * weather.delayMs : 0;
    const nowMs = clock.monotonicMs();
    freeAtMs = Math.max(freeAtMs, nowMs + weather.delayMs + resendMs);
    clock.after(freeAtMs - nowMs, deliver);
  };
  from.setNoDelay(true);
  from.on('data', (bytes) => inTurn(() => to.write(bytes)));
  from.on('error', () => {});
  from.on('close', () => inTurn(() => to.destroy()));
}

const server = createServer((near) => {
  const far = connect(targetPort, '127.0.0.1');
  relay(near, far);
  relay(far, near);
});
process.on('message', (message: Weather) => {
  weather = message;
});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
