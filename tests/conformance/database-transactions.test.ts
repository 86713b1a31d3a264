import { expect, test } from 'vitest';
import { appendEvent, lastEventId, listEvents } from '@dumont/control-plane/store/events.ts';
import { MAX_TRANSACTION_ATTEMPTS } from '@dumont/control-plane/store/serialization.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase, onPostgres } from '../world/databases.ts';
import { someWorkspace } from '../world/rows.ts';

onEachDatabase((database) => {
  test('transactions that read what others write behave as if run one after the other', async () => {
    await using opened = await database.open();
    const { db } = opened;
    await db.query('create table doctors (name text primary key, on_call boolean not null)');
    await db.query(`insert into doctors select 'doctor ' || n, true from generate_series(1, 6) n`);
    // Write skew: each leaves when another stays; under anything weaker than serialisable all may leave.
    await Promise.all(
      Array.from({ length: 6 }, (_, index) =>
        db.transaction(async (tx) => {
          const onCall = await tx.query('select name from doctors where on_call');
          if (onCall.length > 1)
            await tx.query('update doctors set on_call = false where name = $1', [`doctor ${index + 1}`]);
        }),
      ),
    );
    expect(await db.query('select count(*)::int as left from doctors where on_call')).toEqual([{ left: 1 }]);
  });

  test('many increments from several processes are all counted', async () => {
    await using opened = await database.open();
    await opened.db.query('create table counter (value int not null)');
    await opened.db.query('insert into counter values (0)');
    const connections = await Promise.all([1, 2, 3].map(() => opened.connect()));
    let refused = 0;
    await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        must(connections[index % 3], 'one of three')
          .transaction(async (tx) => {
            const [row] = await tx.query('select value from counter');
            await tx.query('update counter set value = $1', [Number(row?.['value']) + 1]);
          })
          .catch((error: unknown) => {
            // Giving up after many attempts is allowed, losing an acknowledged one is not.
            expect(error).toMatchObject({ code: '40001' });
            refused += 1;
          }),
      ),
    );
    expect(await opened.db.query('select value from counter')).toEqual([{ value: 30 - refused }]);
    expect(refused).toBeLessThan(15);
    for (const db of connections) await db[Symbol.asyncDispose]();
  });

  test('a transaction that throws leaves nothing, and the connection stays usable', async () => {
    await using opened = await database.open();
    const { db } = opened;
    let attempts = 0;
    const failing = db.transaction(async (tx) => {
      attempts += 1;
      await someWorkspace(tx, 'half-made');
      throw new Error('changed my mind');
    });
    await expect(failing).rejects.toThrow('changed my mind');
    await expect(db.transaction((tx) => tx.query('select nonsense'))).rejects.toMatchObject({ code: '42703' });
    expect(attempts).toBe(1);
    expect(await db.query('select * from workspaces')).toEqual([]);
  });

  test('values keep their type: big numbers, JSON, text with quotes, null', async () => {
    await using opened = await database.open();
    const rows = await opened.db.query(
      'select $1::bigint as big, $2::jsonb as json, $3::text as text, $4::text as nothing, $5::boolean as flag',
      [Number.MAX_SAFE_INTEGER, JSON.stringify({ list: [1, { deep: 'ü' }] }), `it's "quoted" \\`, null, true],
    );
    expect(rows).toEqual([
      {
        big: Number.MAX_SAFE_INTEGER,
        json: { list: [1, { deep: 'ü' }] },
        text: `it's "quoted" \\`,
        nothing: null,
        flag: true,
      },
    ]);
  });

  test('events become visible in the order of their ids, so who resumes after the last seen misses none', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const writers = await Promise.all([1, 2, 3].map(() => opened.connect()));
    const total = 90;
    let isWriting = true;
    const writing = Promise.all(
      Array.from({ length: total }, (_, index) =>
        must(writers[index % 3], 'one of three').transaction(async (tx) => {
          await tx.query('select 1');
          await appendEvent(tx, {
            type: 'snapshot.committed',
            atMs: index,
            workspaceId: index % 2 === 0 ? workspaceId : null,
            data: { index },
          });
          // Time between the insert and the commit, of different length: without the lock later ids would show first.
          for (let turn = 0; turn < index % 5; turn += 1) await tx.query('select 1');
        }),
      ),
    ).finally(() => {
      isWriting = false;
    });
    const seen: number[] = [];
    for (let wasWriting: boolean = isWriting; ; wasWriting = isWriting) {
      const page = await listEvents(db, { after: seen.at(-1) ?? 0, limit: 7 });
      seen.push(...page.map((event) => event.eventId));
      if (!wasWriting && page.length === 0) break;
    }
    await writing;
    expect(seen).toHaveLength(total);
    expect(await lastEventId(db)).toBe(seen.at(-1));
    const ofWorkspace = await listEvents(db, { after: 0, limit: 500, workspaceId });
    expect(ofWorkspace).toHaveLength(total / 2);
    expect(ofWorkspace[0]).toMatchObject({
      type: 'snapshot.committed',
      workspaceId,
      instanceId: null,
      operationId: null,
    });
    for (const connection of writers) await connection[Symbol.asyncDispose]();
  });

  test('the last event id is 0 before the first event', async () => {
    await using opened = await database.open();
    expect(await lastEventId(opened.db)).toBe(0);
  });
});

onPostgres((database) => {
  test('a transaction that never fits is given up after the last attempt', async () => {
    await using opened = await database.open();
    let attempts = 0;
    const hopeless = opened.db.transaction(async (tx) => {
      attempts += 1;
      await tx.query(`do $$ begin raise exception 'no luck' using errcode = '40001'; end $$`);
    });
    await expect(hopeless).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(attempts).toBe(MAX_TRANSACTION_ATTEMPTS);
  });

  test('a connection that breaks is UNAVAILABLE and retryable, and the next call works', async () => {
    await using opened = await database.open();
    await using other = await opened.connect();
    const broken = opened.db.transaction(async (tx) => {
      const [row] = await tx.query('select pg_backend_pid() as pid');
      await other.query('select pg_terminate_backend($1)', [row?.['pid']]);
      await tx.query('select 1');
    });
    await expect(broken).rejects.toMatchObject({ code: 'UNAVAILABLE', retryable: true });
    expect(await opened.db.query('select 1 as one')).toEqual([{ one: 1 }]);
  });
});
