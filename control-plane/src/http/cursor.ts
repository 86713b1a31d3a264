import { z } from 'zod';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';

const cursorSchema = z.tuple([z.string(), z.string()]);

/** A place in a list, opaque to callers: the list's name keeps a cursor from being used on another list. */
function encodeCursor(list: string, key: string): string {
  return Buffer.from(JSON.stringify([list, key])).toString('base64url');
}

/** @throws {DumontError} USAGE for a cursor this list did not give out */
function decodeCursor(list: string, cursor: string, keyPattern: RegExp): string {
  const parsed = cursorSchema.safeParse(tryParseJson(Buffer.from(cursor, 'base64url').toString()));
  if (parsed.success && parsed.data[0] === list && keyPattern.test(parsed.data[1])) return parsed.data[1];
  throw new DumontError('USAGE', 'cursor: this list gave out no such cursor', {
    field: 'cursor',
    hint: 'Pass on "next" of the page before as it is; leave it out for the first page.',
  });
}

/**
 * One page of a list. `read` is asked for one row more than the page holds: its presence means there is a next page.
 * @param list.keyOf what a row's successor needs to be found again
 */
export async function readPage<Item>(
  query: { readonly limit: number; readonly cursor?: string | undefined },
  list: {
    readonly name: string;
    readonly keyOf: (item: Item) => string;
    /** What such a key looks like; the cursor came over the wire. */
    readonly keyPattern: RegExp;
    readonly read: (from: { readonly key: string | undefined; readonly limit: number }) => Promise<readonly Item[]>;
  },
): Promise<{ readonly items: readonly Item[]; readonly next: string | null }> {
  const key = query.cursor === undefined ? undefined : decodeCursor(list.name, query.cursor, list.keyPattern);
  const rows = await list.read({ key, limit: query.limit + 1 });
  const items = rows.slice(0, query.limit);
  const last = items.at(-1);
  const next = rows.length > query.limit && last !== undefined ? encodeCursor(list.name, list.keyOf(last)) : null;
  return { items, next };
}
