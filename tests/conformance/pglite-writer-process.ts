import { openDatabase } from '@dumont/control-plane/store/open-database.ts';

/** Writes numbered settings into a PGlite for ever, printing each number once it is acknowledged: a process to be killed. */
const [dataDirectory = '', firstNumber = '0'] = process.argv.slice(2);
const db = await openDatabase({ databaseUrl: undefined, dataDirectory });
for (let number = Number(firstNumber); ; number += 1) {
  await db.transaction(async (tx) => {
    await tx.query('insert into settings (key, value) values ($1, $2)', [`row-${number}`, 'x'.repeat(200)]);
    await tx.query('insert into settings (key, value) values ($1, $2)', [`twin-${number}`, 'x'.repeat(200)]);
  });
  process.stdout.write(`${number}\n`);
}
