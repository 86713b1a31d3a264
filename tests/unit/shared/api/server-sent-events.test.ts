import { readServerSentEvents } from '@dumont/shared/api/server-sent-events.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

async function* chunksOf(text: string, cuts: readonly number[] = []): AsyncIterable<Uint8Array> {
  const bytes = new TextEncoder().encode(text);
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].toSorted((a, b) => a - b);
  let start = 0;
  for (const end of [...ends, bytes.length]) {
    yield await Promise.resolve(bytes.subarray(start, end));
    start = end;
  }
}

async function read(text: string, cuts?: readonly number[]) {
  const messages = [];
  for await (const message of readServerSentEvents(chunksOf(text, cuts))) messages.push(message);
  return messages;
}

test('fields, comments, several data lines and names are read as the standard says', async () => {
  expect(await read('\uFEFF: hello\nid: 7\nevent: a\ndata: one\ndata:two\nother: x\n\ndata\n\n')).toEqual([
    { id: '7', event: 'a', data: 'one\ntwo' },
    { id: '7', event: 'message', data: '' },
  ]);
});

test('an id alone is told, a repeated id alone and an unfinished message are not', async () => {
  expect(await read('id: 3\n\nid: 3\n\nevent: x\n\ndata: half')).toEqual([{ id: '3', event: 'message', data: '' }]);
});

test('any split of the bytes and any line end gives the same messages', async () => {
  const message = fc.record({ id: fc.nat(), data: fc.string({ unit: 'grapheme' }) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(message, { maxLength: 8 }),
      fc.array(fc.nat(), { maxLength: 20 }),
      fc.constantFrom('\n', '\r\n', '\r'),
      async (messages, cuts, lineEnd) => {
        const json = messages.map(({ id, data }) => ({ id: String(id), event: 'e', data: JSON.stringify(data) }));
        const lines = json.flatMap(({ id, event, data }) => [`id: ${id}`, `event: ${event}`, `data: ${data}`, '']);
        // The last line end of a CR stream is only certain when something follows.
        const text = lines.map((line) => line + lineEnd).join('') + ':' + lineEnd;
        expect(await read(text, cuts)).toEqual(json);
      },
    ),
  );
});

test('an endless line is refused instead of being kept', async () => {
  const error: unknown = await read('x'.repeat(1_100_000)).catch((caught: unknown) => caught);
  expect(isDumontError(error, 'LIMIT')).toBe(true);
});
