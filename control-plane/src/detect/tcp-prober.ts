import { connect } from 'node:net';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

/**
 * What TCP connections to a machine's banner port (its SSH server, normally) say.
 * - `answered`: at least one byte came: a process on the machine is running
 * - `refused`: the machine's kernel, or the forwarder in front of it, has nobody on that port
 * - `silent`: neither within the time-box. A connection without a banner counts as silent, because the kernel of a frozen
 *   machine, or a forwarder, accepts connections for the dead; so do unreachable networks, which may be our own.
 */
export type ProbeResult = 'answered' | 'refused' | 'silent';

/**
 * Waits for one byte. A connection that ends without one is tried again while time is left: a dying process is hung up
 * on a moment before its port refuses. Never rejects; no socket is left when it resolves, at most `timeoutMs` later.
 */
export async function probeTcp(
  target: { readonly host: string; readonly port: number },
  options: { readonly timeoutMs: number; readonly clock: Clock },
): Promise<ProbeResult> {
  const { clock } = options;
  const deadlineMs = clock.monotonicMs() + options.timeoutMs;
  for (;;) {
    const result = await connectOnce(target, { clock, timeoutMs: Math.max(0, deadlineMs - clock.monotonicMs()) });
    if (result !== 'inconclusive') return result;
    const leftMs = deadlineMs - clock.monotonicMs();
    await clock.sleep(Math.max(0, Math.min(RETRY_AFTER_MS, leftMs)));
    if (leftMs <= RETRY_AFTER_MS) return 'silent';
  }
}

function connectOnce(
  target: { readonly host: string; readonly port: number },
  options: { readonly timeoutMs: number; readonly clock: Clock },
): Promise<ProbeResult | 'inconclusive'> {
  return new Promise((resolve) => {
    const socket = connect({ host: target.host, port: target.port, noDelay: true });
    const finish = (result: ProbeResult | 'inconclusive') => {
      cancelTimeout();
      socket.destroy();
      resolve(result);
    };
    const cancelTimeout = options.clock.after(options.timeoutMs, () => finish('silent'));
    socket.once('data', () => finish('answered'));
    socket.once('end', () => finish('inconclusive'));
    // Stays attached: a destroyed socket may still report an error, which has nobody else to go to.
    socket.on('error', (error) => finish(isRefusal(error) ? 'refused' : 'inconclusive'));
  });
}

/** A host name with several addresses fails with one error that gathers those of each address. */
function isRefusal(error: Error): boolean {
  if (error instanceof AggregateError) {
    return error.errors.length > 0 && error.errors.every((each) => systemErrorCode(each) === 'ECONNREFUSED');
  }
  return systemErrorCode(error) === 'ECONNREFUSED';
}

/** Longer than a killed process needs to let go of its sockets; five tries fit into the usual time-box. */
const RETRY_AFTER_MS = 40;
