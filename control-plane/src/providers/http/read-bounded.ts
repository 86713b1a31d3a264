import { DumontError } from '@dumont/shared/util/errors.ts';

/** The whole text of an answer. @throws {DumontError} LIMIT when it is longer than `maxBytes`; the rest is not read */
export async function readBounded(response: Response, maxBytes: number): Promise<string> {
  if (response.body === null) return '';
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body as AsyncIterable<Uint8Array>) {
    size += part.length;
    // Leaving the loop cancels the stream.
    if (size > maxBytes) throw new DumontError('LIMIT', `the answer is longer than ${maxBytes} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
