import { expect, test } from 'vitest';
import { insertEnrolment, listPendingEnrolments } from '@dumont/control-plane/store/enrolments.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { applyInstanceEvent, findInstance } from '@dumont/control-plane/store/instances.ts';
import { drawSecret, hashSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { enrol, issueEnrolToken, revokeEnrolment } from '@dumont/control-plane/workspaces/enrolment.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { someInstance, someWorkspace } from '../../../world/rows.ts';

/** A machine with a token that is good for a minute. */
async function worldOn(db: Database) {
  const clock = new ManualClock();
  const parts = { db, clock, onChange: () => {} };
  const workspaceId = await someWorkspace(db);
  const instanceId = await someInstance(db, workspaceId);
  const atMs = clock.nowMs();
  const enrolToken = await issueEnrolToken(db, instanceId, { atMs, expiresAtMs: atMs + 60_000 });
  const ask = (credential: string, address = '10.0.0.7') =>
    enrol(parts, { enrolToken, credential, hostname: 'box', agentVersion: '1.2.3' }, address);
  const events = async () => (await listEvents(db, { after: 0, limit: 100 })).map(({ type, data }) => ({ type, data }));
  const instance = async () => must(await findInstance(db, instanceId), 'it exists');
  return { clock, parts, workspaceId, instanceId, enrolToken, ask, events, instance };
}

onEachDatabase((database) => {
  test('a token is exchanged for an identity once; the same agent asking again gets the same answer', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const credential = drawSecret();
    const answer = { instanceId: world.instanceId, role: 'gpu', workspaceId: world.workspaceId };
    expect(await world.ask(credential)).toEqual(answer);
    world.clock.skip(3_600_000);
    expect(await world.ask(credential)).toEqual(answer);
    expect((await world.instance()).credentialHash).toBe(hashSecret(credential));
    const data = { hostname: 'box', agentVersion: '1.2.3', address: '10.0.0.7' };
    expect(await world.events()).toEqual([{ type: 'enrolment.used', data }]);
  });

  test('a stolen token used again is refused and reported, once a minute, and changes nothing', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const credential = drawSecret();
    await world.ask(credential);
    const thief = () => world.ask(drawSecret(), '203.0.113.5');
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await expect(thief()).rejects.toMatchObject({ code: 'UNAUTHORIZED', field: 'enrolToken' });
    }
    const data = { reason: 'used', hostname: 'box', address: '203.0.113.5' };
    const refused = async () => (await world.events()).filter(({ type }) => type === 'enrolment.refused');
    expect(await refused()).toEqual([{ type: 'enrolment.refused', data }]);
    world.clock.skip(61_000);
    await expect(thief()).rejects.toThrow(/used already/);
    expect(await refused()).toHaveLength(2);
    expect((await world.instance()).credentialHash).toBe(hashSecret(credential));
    const everything = JSON.stringify(await opened.db.query('select * from instances, events, enrolment_tokens'));
    expect(everything).not.toContain(world.enrolToken);
    expect(everything).not.toContain(credential);
  });

  test('of several agents that come with one token at once, one joins', async () => {
    await using opened = await database.open();
    const world = await worldOn(opened.db);
    const answers = await Promise.allSettled(Array.from({ length: 5 }, () => world.ask(drawSecret())));
    expect(answers.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  test('a token ends: by time, by revocation, with its machine; one that nobody gave out never began', async () => {
    await using opened = await database.open();
    const late = await worldOn(opened.db);
    late.clock.skip(60_000);
    await expect(late.ask(drawSecret())).rejects.toMatchObject({ code: 'UNAUTHORIZED', message: /expired/ });

    const revoked = await worldOn(opened.db);
    expect(await revokeEnrolment(revoked.parts, await revoked.instance())).toBe(true);
    expect(await revokeEnrolment(revoked.parts, await revoked.instance())).toBe(false);
    await expect(revoked.ask(drawSecret())).rejects.toMatchObject({ code: 'UNAUTHORIZED', message: /revoked/ });

    const released = await worldOn(opened.db);
    await applyInstanceEvent(opened.db, released.instanceId, 'release', 1);
    await expect(released.ask(drawSecret())).rejects.toMatchObject({ code: 'CONFLICT', message: /given back/ });

    const { parts } = released;
    const body = { enrolToken: drawSecret(), credential: drawSecret(), hostname: 'h', agentVersion: '0' };
    await expect(enrol(parts, body, 'x')).rejects.toMatchObject({ code: 'UNAUTHORIZED', message: /does not know/ });
    const reasons = (await released.events())
      .map(({ data }) => data['reason'])
      .filter((reason) => reason !== undefined);
    expect(reasons).toEqual(['expired', 'revoked', 'released']);
  });

  test('what is waited for is listed, newest first, in pages; what was used, revoked or given back is not', async () => {
    await using opened = await database.open();
    const { db } = opened;
    const workspaceId = await someWorkspace(db);
    const ids = [];
    for (let index = 0; index < 5; index += 1) {
      const instanceId = await someInstance(db, workspaceId);
      const atMs = 1_000 + index;
      await insertEnrolment(db, { hash: hashSecret(drawSecret()), instanceId, atMs, expiresAtMs: atMs + 1 });
      ids.unshift(instanceId);
    }
    const page = async (before?: string) =>
      (await listPendingEnrolments(db, { before, limit: 2 })).map(({ instanceId }) => instanceId);
    expect(await page()).toEqual(ids.slice(0, 2));
    expect(await page(ids[1])).toEqual(ids.slice(2, 4));
    await applyInstanceEvent(db, must(ids[0], 'there are five'), 'release', 1);
    expect(await page()).toEqual(ids.slice(1, 3));
  });
});
