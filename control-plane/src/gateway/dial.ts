import { connect, type Socket } from 'node:net';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { MachineAddress } from '../providers/provider.ts';
import { KEEP_ALIVE_MS } from './gateway-limits.ts';

interface DialOptions {
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  /** How long the other side may take for its first byte. */
  readonly greetingMs: number;
  readonly signal: AbortSignal;
}

/**
 * Connects and waits for the first byte, which stays in the stream. Forwarders in front of a machine accept before they
 * know whether anybody is behind: one that ends without a word is not up.
 * @returns the paused socket, and whether it spoke; null when nobody is there or the signal aborted. Never rejects.
 */
export async function dial(
  address: MachineAddress,
  options: DialOptions,
): Promise<{ readonly socket: Socket; readonly greeted: boolean } | null> {
  const { clock, signal } = options;
  if (signal.aborted) return null;
  const socket = connect({
    host: address.host,
    port: address.port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
    allowHalfOpen: true,
  });
  // Stays attached: a destroyed socket may still report an error, which has nobody else to go to.
  socket.on('error', ignore);
  const outcome = Promise.withResolvers<'greeted' | 'mute' | 'nobody'>();
  let cancelTimer = clock.after(options.connectTimeoutMs, () => outcome.resolve('nobody'));
  const onNobody = () => outcome.resolve('nobody');
  const onData = (bytes: Buffer) => {
    socket.pause();
    socket.unshift(bytes);
    outcome.resolve('greeted');
  };
  socket.once('connect', () => {
    cancelTimer();
    cancelTimer = clock.after(options.greetingMs, () => outcome.resolve('mute'));
  });
  socket.once('data', onData).once('end', onNobody).once('close', onNobody);
  signal.addEventListener('abort', onNobody, { once: true });
  const result = await outcome.promise;
  cancelTimer();
  signal.removeEventListener('abort', onNobody);
  socket.off('data', onData).off('end', onNobody).off('close', onNobody);
  if (result === 'nobody' || socket.destroyed) {
    socket.destroy();
    return null;
  }
  socket.pause();
  return { socket, greeted: result === 'greeted' };
}

function ignore(): void {}
