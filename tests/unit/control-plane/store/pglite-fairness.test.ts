import { openPglite } from '@dumont/control-plane/store/pglite.ts';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

/** Enough that a loop without pauses would hold up sockets for as long as a heartbeat takes to be missed. */
const QUERIES = 400;

test('a long run of queries on the embedded database leaves sockets and timers their turns', async () => {
  await using folder = await makeTempFolder();
  await using db = await openPglite(folder.path);
  await db.query('select 1');
  let turns = 0;
  let isOver = false;
  const countTurns = () => {
    turns += 1;
    if (!isOver) setImmediate(countTurns);
  };
  setImmediate(countTurns);
  for (let index = 0; index < QUERIES / 2; index += 1) {
    await db.query('select $1::int', [index]);
    await db.transaction((tx) => tx.query('select $1::int', [index]));
  }
  isOver = true;
  expect(turns).toBeGreaterThan(QUERIES / 2);
});
