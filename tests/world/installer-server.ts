import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Run on the machine; the installer's own Node, as it were. */
const TELL = `
  const own = Object.entries(process.env).filter(([name]) => name.startsWith("DUMONT_"));
  const body = own.map(([name, value]) => name + "=" + value + "\\n").join("");
  fetch(process.env.DUMONT_CONTROL_URL + "/hello", { method: "POST", body });
`;

/**
 * Stands where fresh machines look for a control plane: hands out an installer that tells, in place of installing
 * anything, with which environment it was run.
 */
export class InstallerServer implements AsyncDisposable {
  /** What the installers reported, in the order of their arrival: `NAME=value` lines. */
  readonly reports: string[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      if (request.method === 'GET') {
        response.end(`'${process.execPath}' -e '${TELL}'; sleep 600 &\n`);
        return;
      }
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        this.reports.push(Buffer.concat(parts).toString('utf8'));
        response.end();
      });
    });
  }

  static async open(): Promise<InstallerServer> {
    const server = new InstallerServer();
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.closeAllConnections();
    this.#server.close();
    await closed;
  }
}
