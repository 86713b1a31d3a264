import { expect, test } from 'vitest';
import { eventually } from '../world/eventually.ts';
import { canSeal, startSealedHost, type SealedHost } from '../world/sealed-host.ts';
import { makeRelease, type StandIn } from '../world/stand-in-release.ts';

const sealed = test.skipIf(!(await canSeal()));

const INSTALL = 'curl -fsSL http://127.0.0.1:8766/install.sh | sh -s --';
const SUPERVISOR = '/opt/dumont-agent/current/dumont-supervisor';
const STATE = '/var/lib/dumont-agent';

/** A host with version 1.0.0 installed, whose supervisor has these settings. */
async function installed(
  settings: Readonly<Record<string, string>> = {},
  tools: 'gnu' | 'busybox' = 'gnu',
): Promise<SealedHost> {
  const machine = await startSealedHost({ tools, serve: (folder) => makeRelease(folder, { version: '1.0.0' }) });
  await machine.ok(INSTALL, { env: { ...settings, DUMONT_ENROL_TOKEN: 'one-time-token' } });
  return machine;
}

async function agentPid(machine: SealedHost): Promise<string | undefined> {
  const { stdout } = await machine.run(`cat ${STATE}/agent.pid`);
  return stdout.split(' ')[0] === '' ? undefined : stdout.split(' ')[0];
}

/** Until it is gone: a signal is delivered before its effect. */
async function killSupervisor(machine: SealedHost): Promise<void> {
  await machine.ok(`read pid _ <${STATE}/supervisor.pid; kill -9 $pid`);
  await eventually('it is dead', async () => (await machine.run(`${SUPERVISOR} status`)).exitCode === 3);
}

async function log(machine: SealedHost): Promise<string> {
  return machine.ok(`cat ${STATE}/log/agent.log`);
}

/** Serves another version and upgrades to it. */
async function upgrade(machine: SealedHost, to: StandIn): ReturnType<SealedHost['run']> {
  await makeRelease(machine.servedFolder, to);
  return machine.run(`${INSTALL} --upgrade`);
}

for (const tools of ['gnu', 'busybox'] as const) {
  sealed(`an agent that is killed is back at once, with ${tools} tools`, async () => {
    await using machine = await installed({}, tools);
    const pid = await agentPid(machine);
    await machine.ok(`kill -9 ${pid}`);
    const next = await eventually(
      'a new agent',
      async () => {
        const now = await agentPid(machine);
        return now !== pid && now;
      },
      3_000,
    );
    expect(next).not.toBe(pid);
    await eventually('it is connected', async () => (await log(machine)).split('welcomed').length === 3);
    expect(await machine.ok(`${SUPERVISOR} status`)).toMatch(/last end .* code=137 /);
  });

  sealed(`an upgrade takes effect without a new supervisor process, with ${tools} tools`, async () => {
    await using machine = await installed({}, tools);
    const before = (await machine.ok(`cat ${STATE}/supervisor.pid`)).split(' ')[0];
    const { exitCode, stdout } = await upgrade(machine, { version: '1.1.0' });
    expect(exitCode).toBe(0);
    expect(stdout).toContain('upgrade from 1.0.0 to 1.1.0');
    expect(await machine.ok('dumont-agent --version')).toBe('dumont-agent 1.1.0\n');
    expect(await machine.ok('ls /opt/dumont-agent/versions')).toBe('1.0.0\n1.1.0\n');
    await machine.ok(`${SUPERVISOR} restart`);
    await eventually('the new script runs', async () => (await log(machine)).includes('"event":"supervisor.renewed"'));
    expect((await machine.ok(`cat ${STATE}/supervisor.pid`)).split(' ')[0]).toBe(before);
    await eventually('with an agent', async () => (await agentPid(machine)) !== undefined);
    expect(await machine.ok(`${SUPERVISOR} status`)).toMatch(/version +1\.1\.0\n/);
  });

  sealed(`a version that crashes gives way to the one before, with ${tools} tools`, async () => {
    await using machine = await installed({}, tools);
    const { exitCode, stderr } = await upgrade(machine, { version: '1.1.0', conduct: 'crashes' });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('version 1.1.0 did not work (ended-twice: code 1); 1.0.0 runs again');
    expect(await machine.ok('readlink /opt/dumont-agent/current')).toBe('versions/1.0.0\n');
    expect(await machine.ok('ls /opt/dumont-agent/versions')).toBe('1.0.0\n');
    await eventually('the old one is connected', async () => (await log(machine)).split('welcomed').length === 3);
  });
}

sealed('a version that never connects gives way to the one before, and tells why', async () => {
  await using machine = await installed({ DUMONT_UPGRADE_TRIAL_S: '2' });
  const { stderr } = await upgrade(machine, { version: '1.1.0', conduct: 'hangs' });
  expect(stderr).toContain('version 1.1.0 did not work (not-welcomed: within 2 s); 1.0.0 runs again');
  expect(await machine.ok('readlink /opt/dumont-agent/current')).toBe('versions/1.0.0\n');
});

sealed('a version that the control plane refuses gives way within the trial, without the long pause', async () => {
  await using machine = await installed({ DUMONT_REFUSED_RETRY_S: '1000' });
  const { stderr } = await upgrade(machine, { version: '1.1.0', conduct: 'is-refused' });
  expect(stderr).toContain('version 1.1.0 did not work (ended-twice: code 77); 1.0.0 runs again');
});

sealed('a broken version leaves upgrade.failed for the old agent to report', async () => {
  await using machine = await installed();
  await machine.ok(`${SUPERVISOR} stop`);
  await machine.ok(`mkdir /opt/dumont-agent/versions/2.0.0 && cd /opt/dumont-agent/versions &&
    cp 1.0.0/dumont-supervisor 2.0.0 && printf '#!/bin/sh\\nexit 3\\n' >2.0.0/dumont-agent && chmod 755 2.0.0/* &&
    rm 1.0.0/dumont-agent && printf '#!/bin/sh\\nexec sleep 1000\\n' >1.0.0/dumont-agent && chmod 755 1.0.0/dumont-agent &&
    printf 'from=1.0.0\\nto=2.0.0\\n' >${STATE}/upgrade.pending && ln -sfn versions/2.0.0 ../current`);
  await machine.ok(`${SUPERVISOR} start`);
  const failed = await eventually('the way back', async () => {
    const { stdout } = await machine.run(`cat ${STATE}/upgrade.failed`);
    return stdout !== '' && stdout;
  });
  expect(failed).toBe('from=1.0.0\nto=2.0.0\nreason=ended-twice: code 3\n');
  expect(await machine.ok('readlink /opt/dumont-agent/current')).toBe('versions/1.0.0\n');
});

sealed('a second supervisor is refused, and one whose pid file is stale is not', async () => {
  await using machine = await installed();
  expect(await machine.run(SUPERVISOR)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining('already running'),
  });
  await killSupervisor(machine);
  // The pid is that of the first process, the start time is not.
  await machine.ok(`printf '1 12345 then\\n' >${STATE}/supervisor.pid`);
  await machine.ok(`${SUPERVISOR} start`);
  expect(await machine.ok(`${SUPERVISOR} status`)).toMatch(/version +1\.0\.0/);
});

sealed('the agent of a supervisor that was killed makes room for a new one', async () => {
  await using machine = await installed();
  const orphan = await agentPid(machine);
  await killSupervisor(machine);
  await machine.ok(`${SUPERVISOR} start`);
  await eventually('another agent', async () => {
    const now = await agentPid(machine);
    return now !== undefined && now !== orphan;
  });
  expect(await machine.ok('ps -eo args | grep -c "[d]umont-agent run"')).toBe('1\n');
});

sealed('SIGHUP renews the agent, SIGTERM ends both, and neither leaves a dead process behind', async () => {
  await using machine = await installed();
  const first = await agentPid(machine);
  await machine.ok(`read pid _ <${STATE}/supervisor.pid; kill -HUP $pid`);
  await eventually('a new agent', async () => {
    const now = await agentPid(machine);
    return now !== undefined && now !== first;
  });
  expect(await machine.ok(`tail -n 1 ${STATE}/supervisor.exits`)).toContain('code=75');
  await machine.ok(`read pid _ <${STATE}/supervisor.pid; kill -TERM $pid`);
  await eventually('no process', async () => (await machine.run(`${SUPERVISOR} status`)).exitCode === 3);
  expect(await machine.ok('ls /var/lib/dumont-agent | grep pid || true')).toBe('');
  expect(await machine.ok('ps -eo stat,args | grep "^Z.*sleep" || true')).toBe('');
});

sealed(
  'an agent that is done is left alone, one that fails again and again is started less and less often',
  async () => {
    await using machine = await installed();
    await machine.ok(`echo 0 >${STATE}/end-with`);
    await eventually('the supervisor ends', async () => (await machine.run(`${SUPERVISOR} status`)).exitCode === 3);
    await machine.ok(`printf '#!/bin/sh\\nexit 1\\n' >/opt/dumont-agent/versions/1.0.0/dumont-agent`);
    await machine.ok(`${SUPERVISOR} start`);
    const ends = async () => (await log(machine)).split('"code":1,').length - 1;
    await eventually('some ends', async () => (await ends()) >= 4);
    // 0.2 + 0.4 + 0.8 s have passed by now, and the next pause is longer than all of them.
    expect(await ends()).toBeLessThan(6);
  },
);

sealed('a refused credential is tried again only after the pause for it', async () => {
  await using machine = await installed({ DUMONT_REFUSED_RETRY_S: '1000' });
  await machine.ok(`echo 77 >${STATE}/end-with`);
  await eventually('it ended', async () => (await log(machine)).includes('"code":77'));
  expect(await machine.ok(`${SUPERVISOR} status`)).toContain('agent        not running');
  await machine.ok(`${SUPERVISOR} restart`);
  await eventually('asked to, it is started at once', async () => (await agentPid(machine)) !== undefined);
});

sealed('the log is rotated while the agent writes on, and three old ones are kept', async () => {
  await using machine = await installed({ DUMONT_LOG_MAX_BYTES: '5000', DUMONT_LOG_CHECK_S: '1' });
  const pid = await agentPid(machine);
  await machine.ok(`touch ${STATE}/chatter`);
  await eventually(
    'three old ones',
    async () => (await machine.run(`ls ${STATE}/log/agent.log.3`)).exitCode === 0,
    30_000,
  );
  await eventually('one more round', async () => Number(await machine.ok(`wc -c <${STATE}/log/agent.log`)) < 40_000);
  expect((await machine.ok(`ls ${STATE}/log`)).trim().split('\n')).toHaveLength(4);
  expect(await agentPid(machine)).toBe(pid);
  expect(await machine.ok(`/usr/bin/find ${STATE}/log -type f -perm /077`)).toBe('');
});

sealed('values of agent.env are data, however they look', async () => {
  await using machine = await installed();
  const lines = [
    "DUMONT_WORKSPACE_DIR='$(touch /tmp/ran)'",
    "SNAPSHOT_PASSWORD='a'\\''b\"c`touch /tmp/ran`; touch /tmp/ran $HOME \\n*'",
    'DUMONT_LOG_LEVEL=plain value',
    'PATH=/nowhere',
    "LD_PRELOAD='/tmp/evil.so'",
    "bad-name='x'",
    "X;touch /tmp/ran='x'",
    '# a comment = with a sign',
  ];
  await machine.ok(`cat >/etc/dumont-agent/agent.env <<'END'\n${lines.join('\n')}\nEND\n${SUPERVISOR} restart`);
  const seen = await eventually('the new environment', async () => {
    const { stdout } = await machine.run(`cat ${STATE}/seen-environment`);
    return stdout.includes('SNAPSHOT_PASSWORD=') && stdout;
  });
  expect(seen).toContain('DUMONT_WORKSPACE_DIR=$(touch /tmp/ran)\n');
  expect(seen).toContain('SNAPSHOT_PASSWORD=a\'b"c`touch /tmp/ran`; touch /tmp/ran $HOME \\n*\n');
  expect(seen).toContain('DUMONT_LOG_LEVEL=plain value\n');
  expect(seen).toContain(`DUMONT_INSTALL_DIR=/opt/dumont-agent\n`);
  expect(seen).toContain(`DUMONT_STATE_DIR=${STATE}\n`);
  expect(seen).not.toMatch(/nowhere|evil|bad-name|ENROL/);
  expect((await machine.run('ls /tmp/ran')).exitCode).not.toBe(0);
});
