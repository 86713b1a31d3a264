import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { MachineNetwork } from '@dumont/control-plane/providers/local/machine-network.ts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { probe } from '../../../../conformance/provider-world.ts';

let server: Server;
let network: MachineNetwork;
const sockets: Socket[] = [];

beforeEach(async () => {
  server = createServer({ allowHalfOpen: true }, (socket) => sockets.push(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  network = await MachineNetwork.open({ host: '127.0.0.1', port }, { cut: false });
});

afterEach(async () => {
  await network[Symbol.asyncDispose]();
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
  await once(server, 'close');
});

/** An agent's connection and the control plane's end of it. */
async function link(): Promise<{ readonly agent: Socket; readonly control: Socket }> {
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const agent = connect({ port: network.uplinkPort, host: '127.0.0.1', allowHalfOpen: true });
  sockets.push(agent.on('error', () => {}));
  const [control] = await accepted;
  return { agent, control };
}

/** Resolves however the connection ended. */
const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()));

test('the uplink carries bytes both ways, more than any buffer holds, and each direction’s end by itself', async () => {
  const { agent, control } = await link();
  const sent = randomBytes(8 * 1024 * 1024);
  agent.end(sent);
  expect((await buffer(control)).equals(sent)).toBe(true);
  // The agent has ended; the answer still comes through whole.
  control.end(sent);
  expect((await buffer(agent)).equals(sent)).toBe(true);
});

test('a connection that is broken off on one side is broken off on the other', async () => {
  const { agent, control } = await link();
  control.resetAndDestroy();
  agent.resume();
  await once(agent, 'end');
});

test('a cut holds back bytes and endings, a heal delivers them', async () => {
  const { agent, control } = await link();
  network.cut();
  control.setEncoding('utf8');
  const received: string[] = [];
  control.on('data', (text: string) => received.push(text));
  const ended = once(control, 'end');
  agent.end('said during the cut');
  expect(await probe({ host: '127.0.0.1', port: network.probePort }, 100)).toBe('silent');
  expect(received).toEqual([]);
  network.heal();
  await ended;
  expect(received.join('')).toBe('said during the cut');
});

test('a connection made during a cut reaches the control plane only after the heal', async () => {
  network.cut();
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const agent = connect(network.uplinkPort, '127.0.0.1');
  sockets.push(agent);
  await once(agent, 'connect');
  agent.end('late');
  expect(await probe({ host: '127.0.0.1', port: network.probePort }, 100)).toBe('silent');
  expect(sockets.filter((socket) => socket !== agent)).toEqual([]);
  network.heal();
  const [control] = await accepted;
  expect((await buffer(control)).toString()).toBe('late');
});

test('a machine that starts in a cut is silent from the first moment', async () => {
  const silent = await MachineNetwork.open(null, { cut: true });
  expect(await probe({ host: '127.0.0.1', port: silent.probePort }, 100)).toBe('silent');
  await silent[Symbol.asyncDispose]();
});

test('without a control plane behind it the uplink hangs up', async () => {
  server.close();
  const agent = connect(network.uplinkPort, '127.0.0.1');
  agent.on('error', () => {});
  agent.resume();
  await closed(agent);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
