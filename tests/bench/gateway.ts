import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { openDatabase } from '@dumont/control-plane/store/open-database.ts';
import type { MachineAddress } from '@dumont/control-plane/providers/provider.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { GatewayWorld } from '../unit/control-plane/gateway/gateway-world.ts';

/**
 * `npm run bench:gateway`: what the gateway costs against a direct connection, on the loopback. Machine, gateway and user
 * have a thread each; on two cores they share them, so the gateway's figures are a lower bound.
 */

const STREAM_BYTES = 1024 * 1024 * 1024;
const ROUND_TRIPS = 3_000;
const REQUESTS = 5_000;
const CONCURRENCY = 16;

interface Way {
  readonly name: string;
  readonly tcp: MachineAddress;
  readonly http: MachineAddress & { readonly path: string };
}

/** What each way came to. */
type Figures = Readonly<
  Record<'MB/s' | 'round trip p50 µs' | 'round trip p99 µs' | 'requests/s' | 'request p50 µs', number>
>;

if (isMainThread) await main();
else if (workerData === 'machine') await machine();
else await user(workerData as readonly Way[]);

async function main(): Promise<void> {
  await using folder = await makeTempFolder();
  await using db = await openDatabase({ databaseUrl: undefined, dataDirectory: folder.path });
  await using world = await GatewayWorld.start(db);
  const self = new URL(import.meta.url);
  const backend = new Worker(self, { workerData: 'machine' });
  const [{ tcp, http }] = (await once(backend, 'message')) as [Record<'tcp' | 'http', MachineAddress>];
  const workspace = await world.workspace('bench');
  await world.promote(workspace.id, await world.machine(workspace.id, { ssh: tcp, http }));
  const api = new URL(workspace.http);
  const ways: readonly Way[] = [
    { name: 'direct', tcp, http: { ...http, path: '/' } },
    {
      name: 'gateway',
      tcp: { host: '127.0.0.1', port: workspace.port },
      http: { host: api.hostname, port: Number(api.port), path: api.pathname },
    },
  ];
  const caller = new Worker(self, { workerData: ways });
  const [figures] = (await once(caller, 'message')) as [Readonly<Record<string, Figures>>];
  for (const [name, row] of Object.entries(figures)) {
    const cells = Object.entries(row).map(([unit, value]) => `${value.toFixed(0)} ${unit}`);
    process.stdout.write(`${name.padEnd(8)} ${cells.join(' · ')}\n`);
  }
  await backend.terminate();
}

/** Greets, then echoes, or sends a stream when asked for one. */
async function machine(): Promise<void> {
  const block = Buffer.alloc(256 * 1024, 7);
  const tcp = createTcpServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.write('!');
    socket.once('data', (first) => {
      if (String(first) !== 'stream') {
        socket.write(first);
        socket.pipe(socket);
        return;
      }
      let left = STREAM_BYTES;
      const send = () => {
        while (left > 0) {
          left -= block.length;
          if (!socket.write(block)) return void socket.once('drain', send);
        }
        socket.end();
      };
      send();
    });
  });
  const http = createServer((_request, response) => response.end('ok'));
  for (const server of [tcp, http]) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }
  const addressOf = (server: typeof tcp) => ({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  parentPort?.postMessage({ tcp: addressOf(tcp), http: addressOf(http) }, []);
}

async function user(ways: readonly Way[]): Promise<void> {
  const figures: Record<string, Figures> = {};
  for (const way of ways) {
    const trips = await roundTrips(way);
    const { perSecond, timesUs } = await requests(way);
    figures[way.name] = {
      'MB/s': await streamRate(way),
      'round trip p50 µs': quantile(trips, 0.5),
      'round trip p99 µs': quantile(trips, 0.99),
      'requests/s': perSecond,
      'request p50 µs': quantile(timesUs, 0.5),
    };
  }
  parentPort?.postMessage(figures, []);
}

async function greeted({ tcp }: Way): Promise<Socket> {
  const socket = connect({ ...tcp, noDelay: true });
  await once(socket, 'data');
  return socket;
}

async function streamRate(way: Way): Promise<number> {
  const socket = await greeted(way);
  const beganMs = performance.now();
  socket.write('stream');
  let bytes = 0;
  for await (const chunk of socket) bytes += (chunk as Buffer).length;
  return bytes / 1e6 / ((performance.now() - beganMs) / 1_000);
}

async function roundTrips(way: Way): Promise<readonly number[]> {
  const socket = await greeted(way);
  const timesUs: number[] = [];
  for (let count = 0; count < ROUND_TRIPS; count += 1) {
    const beganMs = performance.now();
    socket.write('x');
    await once(socket, 'data');
    timesUs.push((performance.now() - beganMs) * 1_000);
  }
  socket.destroy();
  return timesUs;
}

async function requests({ http }: Way): Promise<{ readonly perSecond: number; readonly timesUs: readonly number[] }> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  const timesUs: number[] = [];
  let left = REQUESTS;
  const beganMs = performance.now();
  const caller = async () => {
    while ((left -= 1) >= 0) {
      const sentMs = performance.now();
      const call = request({ ...http, agent }).end();
      const [answer] = (await once(call, 'response')) as [NodeJS.ReadableStream];
      answer.resume();
      await once(answer, 'end');
      timesUs.push((performance.now() - sentMs) * 1_000);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, caller));
  agent.destroy();
  return { perSecond: REQUESTS / ((performance.now() - beganMs) / 1_000), timesUs };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
