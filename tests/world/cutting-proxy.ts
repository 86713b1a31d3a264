import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A TCP proxy on loopback that can cut what goes through it at any byte. */
export interface CuttingProxy extends AsyncDisposable {
  readonly port: number;
  /** Cuts all connections once so many more bytes went through. */
  cutAfter(bytes: number): void;
}

export async function makeCuttingProxy(targetPort: () => number): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let left = Infinity;
  const server = createServer((near) => {
    const far = connect(targetPort(), '127.0.0.1');
    const end = () => {
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('close', () => {
        sockets.delete(from);
        end();
      });
      from.on('error', end);
      from.on('data', (bytes: Buffer) => {
        left -= bytes.length;
        if (left > 0) {
          if (!to.write(bytes)) from.pause();
          return;
        }
        left = Infinity;
        // What came before the cut still arrives.
        to.end(bytes.subarray(0, bytes.length >> 1));
        from.destroy();
      });
      to.on('drain', () => from.resume());
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    cutAfter: (bytes) => {
      left = bytes;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
