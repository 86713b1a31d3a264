import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { systemClock as clock } from '@dumont/shared/util/clock.ts';

/**
 * Relays a port of loopback and holds every byte for a time, each way, as a longer wire would: `[targetPort, delayMs]` as JSON.
 * The port goes out by IPC. A process of its own, so that what it relays does not slow what is measured.
 */
const [targetPort, delayMs] = JSON.parse(process.argv[2] ?? '[]') as [number, number];

function relay(from: Socket, to: Socket): void {
  from.setNoDelay(true);
  from.on('data', (bytes) => clock.after(delayMs, () => to.write(bytes)));
  from.on('error', () => {});
  from.on('close', () => clock.after(delayMs, () => to.destroy()));
}

const server = createServer((near) => {
  const far = connect(targetPort, '127.0.0.1');
  relay(near, far);
  relay(far, near);
});
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
