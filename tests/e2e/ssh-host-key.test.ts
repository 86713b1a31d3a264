import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bootstrapOverSsh } from '@dumont/control-plane/provisioning/bootstrap/ssh-bootstrap.ts';
import { ensureSshIdentity } from '@dumont/control-plane/provisioning/bootstrap/ssh-identity.ts';
import { SshSession } from '@dumont/control-plane/provisioning/bootstrap/ssh-session.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { openBoot } from '@dumont/control-plane/store/machine-boots.ts';
import { migrate } from '@dumont/control-plane/store/migrate.ts';
import { openPglite } from '@dumont/control-plane/store/pglite.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { expect } from 'vitest';
import { Machine } from '../simulators/vast/machine.ts';
import { someInstance, someWorkspace } from '../world/rows.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { onMachines } from '../world/vast-site.ts';

onMachines(
  'a machine is trusted with a token while it shows the host key it showed first, and not with another',
  { timeout: 60_000 },
  async () => {
    await using folder = await makeTempFolder();
    await using db = await openPglite(join(folder.path, 'database'));
    await migrate(db);
    const identity = await ensureSshIdentity(db);
    expect(await ensureSshIdentity(db)).toEqual(identity);
    const instanceId = await someInstance(db, await someWorkspace(db));
    await openBoot(db, { instanceId, provider: 'vast', machineId: 'host', atMs: 1_000 });
    const order = { ref: `ssh-${instanceId}`, folder: join(folder.path, 'machine') };
    const machine = new Machine({ ...order, environment: {}, onstart: 'true', ports: [] });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => machine.destroy());
    // Enrolled already: there is nothing to install.
    await mkdir(join(machine.root, 'var/lib/dumont-agent'), { recursive: true });
    await writeFile(join(machine.root, 'var/lib/dumont-agent/credential.json'), '{}');
    await machine.start([]);
    const bootstrap = () =>
      bootstrapOverSsh(
        {
          db,
          clock: systemClock,
          log: createLogger('test', 'silent'),
          agentEnvironment: { DUMONT_CONTROL_URL: 'http://127.0.0.1:1' },
          enrolTokenMs: 60_000,
          onChange: () => {},
        },
        {
          instanceId,
          ref: order.ref,
          address: { host: '127.0.0.1', port: must(machine.ports.get(22), 'SSH is open') },
          access: { user: 'root', hasStartScript: false, letIn: (_ref, key) => machine.authorize([key]) },
          onLetIn: () => {},
        },
        { signal: AbortSignal.timeout(50_000) },
      );
    expect(await bootstrap()).toEqual({ kind: 'installed' });
    expect(await bootstrap()).toEqual({ kind: 'installed' });
    {
      const address = { host: '127.0.0.1', port: must(machine.ports.get(22), 'SSH is open') };
      const { signal } = new AbortController();
      const login = { address, user: 'root', ...identity, clock: systemClock, verifyHostKey: () => Promise.resolve() };
      await using session = await SshSession.open(login, { signal });
      await session.run('sleep 30 & exit 0', { signal });
      const failing = session.run('echo "dumont: error: no room" >&2; echo more; exit 3', { signal });
      await expect(failing).rejects.toMatchObject({ code: 'PROVIDER', message: expect.stringContaining('no room') });
    }
    const tokens = () => db.query('select 1 from enrolment_tokens');
    const drawn = (await tokens()).length;

    await db.query("update machine_boots set ssh_host_key = 'another'");
    expect(await bootstrap()).toMatchObject({ kind: 'untrusted', reason: expect.stringContaining('SHA256:another') });
    expect((await tokens()).length).toBe(drawn);
    const events = await listEvents(db, { after: 0, limit: 100 });
    expect(events.map(({ type }) => type)).toContain('machine.host-key-changed');
  },
);
