import { connect } from 'node:net';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import type { MachineAddress } from '../providers/provider.ts';

/** A server that accepts and says nothing for this long is not up. */
const ANSWER_MS = 5_000;
/** RFC 4253 allows 255 characters a line; nobody's greeting is longer. */
const MAX_BANNER_BYTES = 255;

/**
 * The first line that a server says of itself, as SSH servers do (`SSH-2.0-OpenSSH_9.2p1`), without odd characters.
 * @returns null when nobody answers there now
 * @throws the signal's reason
 */
export async function readBanner(
  address: MachineAddress,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<string | null> {
  using deadline = new Deadline(clock, ANSWER_MS, signal);
  const line = await new Promise<string | null>((resolve) => {
    const socket = connect({ host: address.host, port: address.port, noDelay: true });
    let text = '';
    const finish = (banner: string | null) => {
      deadline.signal.removeEventListener('abort', onAbort);
      socket.destroy();
      resolve(banner);
    };
    const onAbort = () => finish(null);
    deadline.signal.addEventListener('abort', onAbort);
    if (deadline.signal.aborted) onAbort();
    socket.setEncoding('latin1').on('data', (part: string) => {
      text = (text + part).slice(0, MAX_BANNER_BYTES);
      const end = text.indexOf('\n');
      if (end !== -1 || text.length === MAX_BANNER_BYTES) finish(end === -1 ? text : text.slice(0, end));
    });
    socket.once('end', () => finish(text === '' ? null : text));
    // Stays attached: a destroyed socket may still report an error, which has nobody else to go to.
    socket.on('error', () => finish(null));
  });
  signal.throwIfAborted();
  return line === null ? null : line.replaceAll(/[^\x20-\x7e]/g, '').trim();
}
