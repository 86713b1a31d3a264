import { DumontError } from '@dumont/shared/util/errors.ts';

/**
 * A request body's JSON; `{}` for an empty one, so that the schema names what is missing.
 * @throws {DumontError} USAGE naming line and column of the first wrong character
 */
export function parseJsonBody(text: string): unknown {
  if (text.trim() === '') return {};
  // Neither database can store it; an escaped backslash before it is refused too, which nobody needs.
  if (text.includes(String.raw`\u0000`)) throw new DumontError('USAGE', 'the body contains a NUL character');
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const before = text.slice(0, jsonErrorOffset(text));
    const line = before.split('\n').length;
    const column = before.length - before.lastIndexOf('\n');
    const atEnd = before.length === text.length ? ', where it ends too early' : '';
    throw new DumontError('USAGE', `the body is not valid JSON: line ${line}, column ${column}${atEnd}`, {
      field: 'body',
      hint: 'Names and texts need double quotes; no comma may follow the last item.',
      cause: error,
    });
  }
}

/**
 * Offset of the first character no JSON text could have there; the length when the text only ends too early.
 * The engine's message gives a position for some errors and none for others, so the offset is found by halving: a
 * beginning is good as long as its only fault is that it ends.
 */
export function jsonErrorOffset(text: string): number {
  let good = 0;
  let bad = text.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (couldContinue(text.slice(0, middle))) good = middle;
    else bad = middle;
  }
  return good;
}

function couldContinue(beginning: string): boolean {
  try {
    JSON.parse(beginning);
    return true;
  } catch (error) {
    const message = error instanceof Error ? error.message : '';
    const position = /at position (\d+)/.exec(message)?.[1];
    return message.startsWith('Unexpected end') || Number(position) >= beginning.length;
  }
}
