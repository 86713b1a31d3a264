import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { WebSocket } from 'ws';

/**
 * A whole machine in one process, for tests that stop or kill it: a banner port, printed on stdout, and an agent that
 * says the hello of its second argument to the URL of its first and then beats every 200 ms.
 */
const [url = '', hello = ''] = process.argv.slice(2);
const banner = createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.write('SSH-2.0-test\r\n');
});
banner.listen(0, '127.0.0.1', () => process.stdout.write(`${(banner.address() as AddressInfo).port}\n`));

const socket = new WebSocket(url, { perMessageDeflate: false });
socket.on('open', () => {
  socket.send(hello);
  let seq = 0;
  systemClock.every(200, () => {
    seq += 1;
    const rest = { epoch: 1, mainLagMs: 0, gpuUtilPct: null, unsavedMs: 0, workload: 'running' };
    socket.send(JSON.stringify({ kind: 'heartbeat', seq, monotonicMs: systemClock.monotonicMs(), ...rest }));
  });
});
