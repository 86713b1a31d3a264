import { CredentialFile, credentialPath } from '@dumont/agent/identity/credential-file.ts';
import { CredentialRotator } from '@dumont/agent/identity/credential-rotator.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { setCredential } from '@dumont/control-plane/store/credentials.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { DatabaseAgentDirectory } from '@dumont/control-plane/workspaces/agent-directory.ts';
import { drawSecret, hashSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import type { CredentialConfirm, CredentialPropose } from '@dumont/shared/protocol/credential.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { someInstance, someWorkspace } from '../../../world/rows.ts';
import { fileGrants } from '../../../world/file-grants.ts';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const ROTATE_MS = 86_400_000;
/** Messages and answers of one rotation, in order; a crash falls right before one of them takes effect. */
const POINTS = ['propose', 'accepted', 'confirm', 'nowhere'] as const;
type Point = (typeof POINTS)[number];

/** One machine: its file on a real disk, its row in a real database, and agents that come, crash and come back. */
async function machineOn(db: Database, folder: string) {
  const clock = new ManualClock();
  const settings = { heartbeatIntervalMs: 200, storage: fileGrants('/none') };
  const directory = new DatabaseAgentDirectory({ db, clock, settings, storageName: 'file', onChange: () => {} });
  const workspaceId = await someWorkspace(db);
  const instanceId = await someInstance(db, workspaceId);
  const credential = drawSecret();
  await setCredential(db, instanceId, hashSecret(credential));
  const file = await CredentialFile.open(credentialPath(folder));
  await file.write({
    controlUrl: 'http://control.example',
    tokenHash: '0'.repeat(64),
    credential,
    next: null,
    sinceMs: clock.nowMs(),
    identity: { instanceId, role: 'gpu', workspaceId },
    isReleased: false,
  });
  const hello = (secret: string) =>
    ({
      kind: 'hello',
      protocolVersion: 2,
      agentVersion: '0',
      instanceId,
      role: 'gpu',
      credential: secret,
      bootId: 'boot-0001',
      lastEpoch: 0,
      hostname: 'h',
      cpuCount: 1,
      memoryBytes: 1,
    }) as const;
  const admits = async (secret: string) => (await directory.admit(hello(secret))).kind === 'admitted';
  return { db, clock, directory, instanceId, credential, folder, admits };
}

/** One agent process over one connection, up to the point where it (or the connection) dies. */
async function liveUntil(machine: Awaited<ReturnType<typeof machineOn>>, crash: Point): Promise<void> {
  const { clock, directory, instanceId, folder } = machine;
  const file = await CredentialFile.open(credentialPath(folder));
  expect(await machine.admits(must(file.record, 'it has joined').credential)).toBe(true);
  const over = Promise.withResolvers<void>();
  let isDead = false;
  const die = () => {
    isDead = true;
    over.resolve();
  };
  const deliver = async (message: CredentialPropose | CredentialConfirm) => {
    if (isDead) return;
    if (message.kind === 'credential-propose') {
      if (crash === 'propose') return die();
      await directory.proposeCredential(instanceId, message.credential);
      if (crash === 'accepted') return die();
      rotator.accepted();
      return;
    }
    if (crash === 'confirm') return die();
    await directory.confirmCredential(instanceId, message.credential);
    die();
  };
  const log = createLogger('test', 'silent');
  const link = {
    send: (message: CredentialPropose | CredentialConfirm) => void deliver(message),
    useCredential: () => {},
  };
  await using rotator = new CredentialRotator({ file, link, clock, log });
  rotator.online();
  rotator.follow(ROTATE_MS);
  await clock.advance(ROTATE_MS);
  await over.promise;
}

onEachDatabase((database) => {
  test.each(POINTS)(
    'a crash before %s takes effect leaves one credential that admits, and the next run ends the change',
    async (point) => {
      await using opened = await database.open();
      await using folder = await makeTempFolder();
      const machine = await machineOn(opened.db, folder.path);
      await liveUntil(machine, point);
      await liveUntil(machine, 'nowhere');
      const after = must((await CredentialFile.open(credentialPath(folder.path))).record, 'it is there');
      expect(after.next).toBeNull();
      expect(after.credential).not.toBe(machine.credential);
      expect(await machine.admits(after.credential)).toBe(true);
      expect(await machine.admits(machine.credential)).toBe(false);
    },
  );

  test('any two crashes in a row are survived', async () => {
    await using opened = await database.open();
    for (const first of POINTS) {
      for (const second of POINTS) {
        await using folder = await makeTempFolder();
        const machine = await machineOn(opened.db, folder.path);
        for (const point of [first, second, 'nowhere'] as const) await liveUntil(machine, point);
        const { credential } = must((await CredentialFile.open(credentialPath(folder.path))).record, 'it is there');
        expect(await machine.admits(credential), `${first}, ${second}`).toBe(true);
      }
    }
  });

  test('who comes with the former credential is refused like a stranger, and reported once a minute', async () => {
    await using opened = await database.open();
    await using folder = await makeTempFolder();
    const machine = await machineOn(opened.db, folder.path);
    await liveUntil(machine, 'nowhere');
    for (let attempt = 0; attempt < 3; attempt += 1) expect(await machine.admits(machine.credential)).toBe(false);
    expect(await machine.admits(drawSecret())).toBe(false);
    const types = (await listEvents(opened.db, { after: 0, limit: 100 })).map(({ type }) => type);
    expect(types).toEqual(['instance.ready', 'credential.replaced', 'credential.refused']);
  });

  test('a credential that was never proposed cannot be confirmed', async () => {
    await using opened = await database.open();
    await using folder = await makeTempFolder();
    const machine = await machineOn(opened.db, folder.path);
    const stranger = drawSecret();
    await machine.directory.confirmCredential(machine.instanceId, stranger);
    expect(await machine.admits(stranger)).toBe(false);
    expect(await machine.admits(machine.credential)).toBe(true);
  });
});
