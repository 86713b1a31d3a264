import { GrantBook, type GrantTrouble } from '@dumont/control-plane/storage/grant-book.ts';
import type { GrantHolder, GrantIssuer } from '@dumont/control-plane/storage/grant-issuer.ts';
import { newId, type InstanceId } from '@dumont/shared/model/ids.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { ManualClock } from '../../../world/manual-clock.ts';

const TTL_MS = 3_600_000;

/** A book over an issuer that numbers its grants; what the service does and who is fenced is scripted. */
function setUp() {
  const clock = new ManualClock();
  const script = { isDown: false, isFenced: false, gate: Promise.resolve() };
  const issued: InstanceId[] = [];
  const told: InstanceId[] = [];
  const troubles: GrantTrouble['kind'][] = [];
  let revocations = 0;
  const issuer: GrantIssuer = {
    way: 'sts',
    issue: async ({ instanceId }) => {
      await script.gate;
      if (script.isDown) throw new DumontError('UNAVAILABLE', 'down', { retryable: true });
      issued.push(instanceId);
      return grantNumber(issued.length, clock.nowMs() + TTL_MS);
    },
    revokeForgotten: () => {
      revocations += 1;
      return Promise.resolve();
    },
  };
  const book = new GrantBook({
    issuer,
    clock,
    mayHold: () => Promise.resolve(!script.isFenced),
    onRenewed: async (instanceId) => void told.push(instanceId),
    onTrouble: async ({ kind }) => void troubles.push(kind),
    random: seededRandom(1),
    log: createLogger('test', 'silent'),
  });
  const holder: GrantHolder = { workspaceId: newId('workspace'), instanceId: newId('instance') };
  const key = async () => {
    const grant = await book.grantFor(holder);
    return grant?.kind === 's3' ? grant.accessKeyId : null;
  };
  return { clock, script, issued, told, troubles, book, holder, key, revocations: () => revocations };
}

function grantNumber(count: number, expiresAtMs: number): StorageGrant {
  const place = { endpoint: 'http://localhost', region: 'r', bucket: 'b', prefix: 'p/', forcePathStyle: true } as const;
  return { kind: 's3', ...place, accessKeyId: `key-${count}`, secretAccessKey: 'secret', expiresAtMs };
}

test('one grant serves all assignments of an instance until half of its life is over, then the agent is told of the next', async () => {
  const { clock, told, book, holder, key } = setUp();
  await using _ = book;
  expect([await key(), await key()]).toEqual(['key-1', 'key-1']);
  await clock.advance(TTL_MS / 2 - 1);
  expect([await key(), told]).toEqual(['key-1', []]);
  await clock.advance(1);
  expect(told).toEqual([holder.instanceId]);
  expect(await key()).toBe('key-2');
  await clock.advance(TTL_MS / 2);
  expect(await key()).toBe('key-3');
});

test('while none can be made the agent keeps what it has, the history says so once, and again when it works', async () => {
  const { clock, script, told, troubles, book, key } = setUp();
  await using _ = book;
  await key();
  script.isDown = true;
  await clock.advance(TTL_MS / 2 + 600_000);
  expect([await key(), troubles, told]).toEqual(['key-1', ['failed'], []]);
  script.isDown = false;
  await clock.advance(60_000);
  expect([await key(), troubles, told.length]).toEqual(['key-2', ['failed', 'recovered'], 1]);
});

test('a grant that ran out is not handed out', async () => {
  const { clock, script, book, key } = setUp();
  await using _ = book;
  await key();
  script.isDown = true;
  await clock.advance(TTL_MS);
  expect(await key()).toBeNull();
});

test('an agent is welcomed without a grant rather than not at all, and told when there is one', async () => {
  const { clock, script, told, book, key } = setUp();
  await using _ = book;
  const gate = Promise.withResolvers<void>();
  script.gate = gate.promise;
  const first = key();
  await clock.advance(3_000);
  expect(await first).toBeNull();
  gate.resolve();
  await clock.advance(0);
  expect([told.length, await key()]).toEqual([1, 'key-1']);
});

test('a fenced instance gets no other grant, and what it has is taken away at once', async () => {
  const { clock, script, issued, told, book, holder, key, revocations } = setUp();
  await using _ = book;
  await key();
  script.isFenced = true;
  book.end(holder.instanceId);
  await clock.advance(10 * TTL_MS);
  expect(issued).toHaveLength(1);
  expect(told).toEqual([]);
  expect(revocations()).toBeGreaterThanOrEqual(1);
});

test('a grant that is made while its instance is fenced is given to nobody and revoked', async () => {
  const { clock, script, told, book, holder, key, revocations } = setUp();
  await using _ = book;
  const gate = Promise.withResolvers<void>();
  script.gate = gate.promise;
  const first = key();
  await clock.advance(0);
  book.end(holder.instanceId);
  await clock.advance(0);
  const before = revocations();
  gate.resolve();
  expect(await first).toBeNull();
  await clock.advance(0);
  expect([revocations() > before, told]).toEqual([true, []]);
});

test('an instance that left is forgotten at its next renewal', async () => {
  const { clock, script, issued, book, key } = setUp();
  await using _ = book;
  await key();
  script.isFenced = true;
  await clock.advance(5 * TTL_MS);
  expect(issued).toHaveLength(1);
});
