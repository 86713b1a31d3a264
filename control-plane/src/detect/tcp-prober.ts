import { connect } from 'node:net';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

/**
 * What one TCP connection to a machine's banner port (its SSH server, normally) says.
 * - `answered`: at least one byte came: a process on the machine is running
 * - `refused`: the machine's kernel, or the forwarder in front of it, has nobody on that port
 * - `silent`: neither within the time-box. A connection without a banner counts as silent, because the kernel of a frozen
 *   machine, or a forwarder, accepts connections for the dead; so do unreachable networks, which may be our own.
 */
export type ProbeResult = 'answered' | 'refused' | 'silent';

/** Connects once and waits for one byte. Never rejects; the socket is gone when it resolves, at most `timeoutMs` later. */
export function probeTcp(
  target: { readonly host: string; readonly port: number },
  options: { readonly timeoutMs: number; readonly clock: Clock },
): Promise<ProbeResult> {
  return new Promise((resolve) => {
    const socket = connect({ host: target.host, port: target.port, noDelay: true });
    const finish = (result: ProbeResult) => {
      cancelTimeout();
      socket.destroy();
      resolve(result);
    };
    const cancelTimeout = options.clock.after(options.timeoutMs, () => finish('silent'));
    socket.once('data', () => finish('answered'));
    socket.once('end', () => finish('silent'));
    // Stays attached: a destroyed socket may still report an error, which has nobody else to go to.
    socket.on('error', (error) => finish(isRefusal(error) ? 'refused' : 'silent'));
  });
}

/** A host name with several addresses fails with one error that gathers those of each address. */
function isRefusal(error: Error): boolean {
  if (error instanceof AggregateError) {
    return error.errors.length > 0 && error.errors.every((each) => systemErrorCode(each) === 'ECONNREFUSED');
  }
  return systemErrorCode(error) === 'ECONNREFUSED';
}
