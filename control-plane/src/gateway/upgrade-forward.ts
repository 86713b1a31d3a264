import type { IncomingMessage } from 'node:http';
import { request as httpRequest, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { KEEP_ALIVE_MS } from './gateway-limits.ts';
import { forwardedResponseHeaders } from './headers.ts';
import type { ForwardParts, Outgoing } from './http-forward.ts';

/** A caller's connection that asks to become something else, and the bytes that came with the request. */
export interface Upgrading {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly head: Buffer;
}

export type Upgraded =
  /** The workload agreed: both connections, to be joined, and whether they speak WebSocket. */
  | { readonly kind: 'joined'; readonly machine: Duplex; readonly isWebSocket: boolean }
  /** It answered with something else, which the caller was given; its connection ends. */
  | { readonly kind: 'declined' }
  | { readonly kind: 'unreachable' };

/**
 * Asks the workload for an upgrade and passes its answer on. Nothing was sent to the caller when it resolves with
 * `unreachable`. Never rejects.
 */
export function forwardUpgrade(
  { request, socket, head }: Upgrading,
  outgoing: Outgoing,
  { clock, limits, signal }: Omit<ForwardParts, 'pools'> & { readonly signal: AbortSignal },
): Promise<Upgraded> {
  const { target, path, headers, prefix } = outgoing;
  const protocol = request.headers.upgrade ?? '';
  return new Promise((resolve) => {
    const upstream = httpRequest({
      host: target.address.host,
      port: target.address.port,
      method: request.method,
      path,
      headers: [...headers, 'Connection', 'Upgrade', 'Upgrade', protocol],
      agent: false,
      setHost: false,
    });
    const onGone = () => upstream.destroy();
    socket.once('close', onGone);
    signal.addEventListener('abort', onGone, { once: true });
    const finish = (outcome: Upgraded) => {
      cancelTimeout();
      socket.off('close', onGone);
      signal.removeEventListener('abort', onGone);
      resolve(outcome);
    };
    const cancelTimeout = clock.after(limits.connectTimeoutMs, () => {
      if (upstream.socket?.connecting !== false) upstream.destroy();
    });
    upstream.once('upgrade', (answer, machine, machineHead) => {
      machine.setKeepAlive(true, KEEP_ALIVE_MS);
      machine.setNoDelay(true);
      socket.write(
        answerHead(answer, prefix, ['Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade ?? protocol]),
      );
      if (machineHead.length > 0) machine.unshift(machineHead);
      if (head.length > 0) machine.write(head);
      finish({ kind: 'joined', machine, isWebSocket: protocol.toLowerCase() === 'websocket' });
    });
    upstream.once('response', (answer) => {
      // Without a length the end of the connection is the end of the body.
      socket.write(answerHead(answer, prefix, ['Connection', 'close']));
      answer.on('error', () => socket.destroy());
      answer.pipe(socket);
      finish({ kind: 'declined' });
    });
    upstream.on('error', () => finish({ kind: 'unreachable' }));
    upstream.once('close', () => finish({ kind: 'unreachable' }));
    upstream.end();
  });
}

function answerHead(answer: IncomingMessage, prefix: string, more: readonly string[]): string {
  const flat = [...forwardedResponseHeaders(answer.rawHeaders, { prefix }), ...more];
  const lines = Array.from({ length: flat.length / 2 }, (_, index) => `${flat[2 * index]}: ${flat[2 * index + 1]}`);
  const status = answer.statusCode ?? 502;
  // Header text arrives as latin1, one character per byte.
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('\r\n')}\r\n\r\n`;
}
