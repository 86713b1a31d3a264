import { request, type IncomingMessage } from 'node:http';
import { toDumontError } from '@dumont/shared/util/errors.ts';

/** What a server on this machine is asked. */
export interface ServerRequest {
  /** An address of this machine. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  /** Sent as JSON by POST; GET without one. */
  readonly body?: unknown;
  readonly bearer?: string | undefined;
  readonly signal: AbortSignal;
}

/** Lists of models and error pages; the streams of answers are bounded line by line. */
const MAX_TEXT_BYTES = 1_048_576;

/**
 * Asks a server on this machine, over a connection of its own. Nothing but the signal limits how long the answer
 * may take: a server that loads a model first says nothing for minutes.
 * @returns once the head of the answer is there; its body must be read or destroyed
 * @throws {DumontError} UNAVAILABLE when nothing listens, the connection breaks or the signal aborts
 */
export function askServer({ host, port, path, body, bearer, signal }: ServerRequest): Promise<IncomingMessage> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const headers = {
    Accept: '*/*',
    ...(payload !== undefined && {
      'Content-Type': 'application/json',
      'Content-Length': String(Buffer.byteLength(payload)),
    }),
    ...(bearer !== undefined && { Authorization: `Bearer ${bearer}` }),
  };
  const method = payload === undefined ? 'GET' : 'POST';
  return new Promise((resolve, reject) => {
    const outgoing = request({ host, port, path, method, headers, agent: false, signal });
    outgoing.once('response', resolve);
    outgoing.once('error', (error) => reject(toDumontError(error, 'UNAVAILABLE', `port ${port}`)));
    outgoing.end(payload);
  });
}

/** The body as text, cut off after a megabyte. @throws {DumontError} UNAVAILABLE when the connection breaks */
export async function readText(answer: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const part of answer) {
      parts.push(part as Buffer);
      sizeBytes += (part as Buffer).length;
      if (sizeBytes > MAX_TEXT_BYTES) break;
    }
  } catch (error) {
    throw toDumontError(error, 'UNAVAILABLE', 'the answer broke off');
  }
  return Buffer.concat(parts).toString('utf8');
}
