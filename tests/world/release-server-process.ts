import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import type { ReleaseFaults } from './sealed-host.ts';

/**
 * Serves `install.sh` and `downloads/` of a folder as the control plane does, with the faults that `faults.json` in it
 * names at the time of each request. With `tls.key` and `tls.crt` there, also by TLS on 8443. Says so when it listens.
 */
const folder = process.argv[2] ?? '';
const PORT = 8766;

createServer(answer).listen(PORT, '127.0.0.1', () => process.stdout.write('listening\n'));
if (existsSync(join(folder, 'tls.key'))) {
  const [key, cert] = [readFileSync(join(folder, 'tls.key')), readFileSync(join(folder, 'tls.crt'))];
  createTlsServer({ key, cert }, answer).listen(8443, '127.0.0.1');
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const faults = readFaults();
  const path = new URL(request.url ?? '/', 'http://server').pathname;
  response.setHeader('Date', new Date(Date.now() + (faults.clockOffsetS ?? 0) * 1_000).toUTCString());
  if (faults.status !== undefined) {
    response.writeHead(faults.status).end();
    return;
  }
  const bytes = readServed(path);
  if (bytes === undefined) {
    response.writeHead(404).end();
    return;
  }
  const isProgram = path.endsWith('.gz');
  if (isProgram && faults.damaged === true) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  response.writeHead(200, { 'Content-Length': bytes.length });
  if (isProgram && faults.cutAfterBytes !== undefined) {
    response.write(bytes.subarray(0, faults.cutAfterBytes), () => response.destroy());
  } else if (isProgram && faults.stallAfterBytes !== undefined) {
    response.write(bytes.subarray(0, faults.stallAfterBytes));
  } else {
    response.end(request.method === 'HEAD' ? undefined : bytes);
  }
}

function readServed(path: string): Buffer | undefined {
  if (path === '/install.sh') {
    const text = readFileSync(join(folder, 'install.sh'), 'utf8');
    return Buffer.from(
      text.replaceAll('@DUMONT_CONTROL_URL@', `http://127.0.0.1:${PORT}`).replaceAll('@DUMONT_VERSION@', newest()),
    );
  }
  const file = join(folder, path === '/downloads/release.json' ? `/downloads/${newest()}/release.json` : path);
  return file.startsWith(join(folder, 'downloads/')) && existsSync(file) ? readFileSync(file) : undefined;
}

function newest(): string {
  return readFileSync(join(folder, 'newest'), 'utf8');
}

function readFaults(): ReleaseFaults {
  const path = join(folder, 'faults.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as ReleaseFaults) : {};
}
