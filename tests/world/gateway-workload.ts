/**
 * A workload that serves users, as the text of one file: on the machine's own address it speaks HTTP, WebSocket and a
 * line protocol that greets first, as SSH does. Every answer names the process it comes from.
 */
export const GATEWAY_WORKLOAD = `
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { createServer as createTcp } from 'node:net';
const host = process.env.DUMONT_MACHINE_HOST;
const machine = process.env.DUMONT_MACHINE_REF;
createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  if (url.pathname === '/slow') return void setTimeout(() => response.end('late'), 60_000).unref();
  if (url.pathname === '/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    return void response.write('data: ' + machine + '\\n\\n');
  }
  if (url.pathname === '/stream') return void response.write('begun');
  const hash = createHash('sha256');
  let bytes = 0;
  request.on('data', (chunk) => { bytes += chunk.length; hash.update(chunk); });
  request.on('end', () => {
    response.setHeader('Set-Cookie', ['mine=1; Domain=example.org; Path=/sub', 'dumont-gateway=stolen']);
    response.end(JSON.stringify({ machine, url: request.url, method: request.method, headers: request.headers, bytes, sha256: hash.digest('hex') }));
  });
}).on('upgrade', (request, socket) => {
  const key = createHash('sha1').update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: ' + key + '\\r\\n\\r\\n');
  const hello = Buffer.from(machine);
  socket.write(Buffer.concat([Buffer.from([0x81, hello.length]), hello]));
  socket.on('error', () => {});
  socket.resume();
}).listen(8080, host);
createTcp((socket) => {
  socket.on('error', () => {});
  socket.write('hello from ' + machine + '\\n');
  socket.pipe(socket);
}).listen(2222, host);
`;
