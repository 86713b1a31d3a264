import { jsonErrorOffset, parseJsonBody } from '@dumont/control-plane/http/json-body.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

test.each([
  ['{"a":1,}', 7],
  ['xyz', 0],
  ['{"a": tru, "b": 1}', 9],
  ['[1 2]', 3],
  ['{"a":1} x', 8],
  ['{"a"', 4],
  ['"abc', 4],
  ['', 0],
])('the fault of %j is at %d', (text, offset) => {
  expect(jsonErrorOffset(text)).toBe(offset);
});

test('a NUL put anywhere into a JSON text is found there', () => {
  fc.assert(
    fc.property(fc.json(), fc.nat(), (text, position) => {
      const at = position % (text.length + 1);
      expect(jsonErrorOffset(`${text.slice(0, at)}\0${text.slice(at)}`)).toBe(at);
    }),
  );
});

test('any JSON text is read as it is, an empty one as an empty object', () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      fc.pre(!text.includes(String.raw`\u0000`));
      expect(parseJsonBody(text)).toEqual(JSON.parse(text));
    }),
  );
  expect(parseJsonBody(' ')).toEqual({});
});
