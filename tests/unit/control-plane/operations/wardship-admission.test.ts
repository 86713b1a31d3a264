import { fileGrants } from '../../../world/file-grants.ts';
import { HeartbeatMonitor } from '@dumont/control-plane/detect/heartbeat-monitor.ts';
import { MachineLocator } from '@dumont/control-plane/detect/machine-locator.ts';
import { AgentHub } from '@dumont/control-plane/hub/agent-hub.ts';
import { Fleet } from '@dumont/control-plane/hub/fleet.ts';
import { listen } from '@dumont/control-plane/http/listen.ts';
import { Wardship } from '@dumont/control-plane/operations/wardship.ts';
import { fencePrimary, promotePrimary } from '@dumont/control-plane/store/workspaces.ts';
import { DatabaseAgentDirectory } from '@dumont/control-plane/workspaces/agent-directory.ts';
import { drawSecret } from '@dumont/control-plane/workspaces/credentials.ts';
import { enrol } from '@dumont/control-plane/workspaces/enrolment.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect, test } from 'vitest';
import { AgentClient } from '../../../world/agent-client.ts';
import { onEachDatabase } from '../../../world/databases.ts';
import { LedgerWorld } from '../provisioning/ledger-world.ts';

onEachDatabase((database) => {
  test('an agent that is fenced while it is being admitted is welcomed as fenced', async () => {
    await using opened = await database.open();
    await using stack = new AsyncDisposableStack();
    const world = await LedgerWorld.make(opened.db);
    const { db, workspaceId } = world;
    const instanceId = await world.rent();
    await promotePrimary(db, workspaceId, instanceId, 0);
    const log = createLogger('test', 'silent');
    const settings = { heartbeatIntervalMs: 200, storage: fileGrants('/none') };
    const real = new DatabaseAgentDirectory({
      db,
      clock: systemClock,
      settings,
      storageName: 'file',
      onChange: () => {},
    });
    const admission = { read: Promise.withResolvers<void>(), answered: Promise.withResolvers<void>() };
    // Between what was read of the database and the welcome that is made of it.
    const directory: ConstructorParameters<typeof AgentHub>[0]['directory'] = {
      admit: async (hello) => {
        const answer = await real.admit(hello);
        admission.read.resolve();
        await admission.answered.promise;
        return answer;
      },
      proposeCredential: (id, next) => real.proposeCredential(id, next),
      confirmCredential: (id, next) => real.confirmCredential(id, next),
      commitSnapshot: (id, commit) => real.commitSnapshot(id, commit),
    };
    const hub = stack.use(new AgentHub({ directory, listener: new Fleet(systemClock), clock: systemClock, log }));
    const corroborator = { corroborate: () => Promise.resolve([]) };
    const monitor = stack.use(
      new HeartbeatMonitor({ clock: systemClock, log, corroborator, onVerdict: () => {}, loopLagMs: () => 0 }),
    );
    const locator = new MachineLocator({ db, providers: new Map() });
    const wardship = new Wardship({ db, hub, monitor, locator, settings, graceMs: 1_000, clock: systemClock, log });
    const server = stack.use(await listen({ host: '127.0.0.1', port: 0 }));
    hub.attach(server);

    const enrolToken = must(world.provider.orders[0]?.agentEnvironment['DUMONT_ENROL_TOKEN'], 'it got a token');
    const credential = drawSecret();
    const body = { enrolToken, credential, hostname: 'h', agentVersion: '0' };
    await enrol({ db, clock: world.clock, onChange: () => {} }, body, 'here');
    const { port } = server;
    const connecting = AgentClient.connect({ port }, { instanceId, credential });
    await admission.read.promise;
    await fencePrimary(db, workspaceId, instanceId);
    await wardship.inform(instanceId);
    admission.answered.resolve();
    const agent = stack.use(await connecting);
    expect(agent.assignment).toMatchObject({ standing: 'fenced', epoch: 1 });
  });
});
