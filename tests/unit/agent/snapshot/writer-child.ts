import { openSync, writeSync } from 'node:fs';

/**
 * Child process that changes one file without pause until it is killed.
 * - `append`: adds numbered lines
 * - `rewrite`: overwrites the whole file in place with one letter after the other
 */
const [, , mode, path = '', sizeText = '0'] = process.argv;
const file = openSync(path, mode === 'append' ? 'a' : 'r+');
process.stdout.write('started\n');
for (let round = 0; ; round += 1) {
  if (mode === 'append') writeSync(file, `line ${round} of a log that grows all the time\n`);
  else writeSync(file, Buffer.alloc(Number(sizeText), 97 + (round % 26)), 0, Number(sizeText), 0);
}
