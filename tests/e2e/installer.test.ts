import { expect, test } from 'vitest';
import { canSeal, startSealedHost, type SealedHost, type SealedHostOptions } from '../world/sealed-host.ts';
import { makeRelease } from '../world/stand-in-release.ts';

const sealed = test.skipIf(!(await canSeal()));

const FETCH = { curl: 'curl -fsSL', wget: 'wget -q -O -' } as const;
const TOKEN = 'one-time-token-0123456789';
const SUPERVISOR = '/opt/dumont-agent/current/dumont-supervisor';
const USER_SUPERVISOR = '/home/user/.local/share/dumont-agent/current/dumont-supervisor';

async function host(options: Partial<SealedHostOptions> = {}): Promise<SealedHost> {
  return startSealedHost({ serve: (folder) => makeRelease(folder, { version: '1.0.0' }), ...options });
}

/** The command of the README. */
function piped(args = '', fetcher: 'curl' | 'wget' = 'curl'): string {
  return `${FETCH[fetcher]} http://127.0.0.1:8766/install.sh | sh -s -- ${args}`;
}

const env = { DUMONT_ENROL_TOKEN: TOKEN };

for (const tools of ['gnu', 'busybox'] as const) {
  for (const fetcher of ['curl', 'wget'] as const) {
    sealed(`a container without systemd gets an agent, with ${tools} tools and ${fetcher} alone`, async () => {
      await using machine = await host({ tools, fetcher });
      const said = await machine.ok(piped('', fetcher), { env });
      expect(said).toContain('dumont-agent 1.0.0 is installed.');
      expect(await machine.ok('dumont-agent --version')).toBe('dumont-agent 1.0.0\n');
      const status = await machine.ok(`${SUPERVISOR} status`);
      expect(status).toMatch(
        /version {6}1\.0\.0\nsupervisor {3}pid \d+ since .*\nagent {8}pid \d+ since .*, version 1\.0\.0/,
      );
      expect(await machine.ok('cat /etc/dumont-agent/agent.env')).toBe("DUMONT_CONTROL_URL='http://127.0.0.1:8766'\n");
    });
  }
}

sealed('an ordinary user gets an agent at home, and nothing is written elsewhere', async () => {
  await using machine = await host();
  const before = await machine.tree();
  await machine.ok(piped(), { env, asUser: true });
  const added = (await machine.tree()).filter((line) => !before.includes(line));
  expect(added.filter((line) => !line.includes(' /home/user/.'))).toEqual([]);
  expect(await machine.ok(`${USER_SUPERVISOR} status`, { asUser: true })).toMatch(/version +1\.0\.0/);
  await machine.ok(`${USER_SUPERVISOR} stop`, { asUser: true });
});

sealed('the agent outlives the shell that installed it, has no file of it open and its umask', async () => {
  await using machine = await host();
  await machine.ok(`umask 027; ${piped()}`, { env });
  const pid = (await machine.ok('cat /var/lib/dumont-agent/supervisor.pid')).split(' ')[0];
  expect(await machine.ok(`ls -l /proc/${pid}/fd | grep -c ' [0-9] -> .*:' || true`)).toBe('0\n');
  expect(await machine.ok('cat /var/lib/dumont-agent/seen-umask')).toBe('0027\n');
});

sealed('the same again changes nothing and restarts nothing', async () => {
  await using machine = await host();
  await machine.ok(piped(), { env });
  const [before, pids] = [await machine.tree(), await machine.ok('cat /var/lib/dumont-agent/*.pid')];
  const said = await machine.ok(piped(), { env });
  expect(said).toContain('version 1.0.0 is here already');
  expect(said).toContain('the agent runs already');
  const still = (line: string) => !/agent\.log|supervisor\.exits/.test(line);
  expect((await machine.tree()).filter(still)).toEqual(before.filter(still));
  expect(await machine.ok('cat /var/lib/dumont-agent/*.pid')).toBe(pids);
});

sealed('a repeated run with another workspace folder keeps the rest of the configuration', async () => {
  await using machine = await host();
  await machine.ok(piped(), { env: { ...env, SNAPSHOT_PASSWORD: "it's $(secret)" } });
  await machine.ok(piped("--workspace-dir '/mnt/my work'"));
  expect((await machine.ok('cat /etc/dumont-agent/agent.env')).split('\n').toSorted()).toEqual([
    '',
    "DUMONT_CONTROL_URL='http://127.0.0.1:8766'",
    "DUMONT_WORKSPACE_DIR='/mnt/my work'",
    "SNAPSHOT_PASSWORD='it'\\''s $(secret)'",
  ]);
  const seen = await machine.ok('cat /var/lib/dumont-agent/seen-environment');
  expect(seen).toContain("SNAPSHOT_PASSWORD=it's $(secret)\n");
  expect(seen).toContain('DUMONT_WORKSPACE_DIR=/mnt/my work\n');
});

sealed('an uninstall with --purge leaves nothing, of root or of a user', async () => {
  await using machine = await host();
  const before = await machine.tree();
  await machine.ok(piped(), { env });
  await machine.ok('/opt/dumont-agent/current/install.sh --uninstall --purge --yes');
  await machine.ok(piped(), { env, asUser: true });
  await machine.ok(piped('--uninstall --purge --yes'), { asUser: true });
  expect(await machine.tree()).toEqual(before);
  expect(await machine.ok('ps -eo args | grep -e dumont-agent | grep -v grep || true')).toBe('');
});

sealed('an uninstall keeps state and configuration, and a later purge removes what was left', async () => {
  await using machine = await host();
  const before = await machine.tree();
  await machine.ok(piped(), { env, asUser: true });
  const said = await machine.ok(piped('--uninstall'), { asUser: true });
  expect(said).toContain('--purge removes them');
  await machine.ok(
    'cat /home/user/.config/dumont-agent/agent.env /home/user/.local/state/dumont-agent/credential.json',
  );
  await machine.ok(piped('--uninstall --purge'), { asUser: true });
  expect(await machine.tree()).toEqual(before);
});

sealed('a dry run tells every step and changes nothing', async () => {
  await using machine = await host();
  const before = await machine.tree();
  const said = await machine.ok(piped('--dry-run'), { env });
  expect(said.trim().split('\n')).toEqual([
    'would download http://127.0.0.1:8766/downloads/1.0.0/dumont-agent-1.0.0-linux-x64.gz and check it',
    'would install it in /opt/dumont-agent/versions/1.0.0',
    'would enrol this machine at http://127.0.0.1:8766',
    'would write /etc/dumont-agent/agent.env',
    'would switch /opt/dumont-agent/current to 1.0.0',
    'would link /usr/local/bin/dumont-agent',
    'would start the agent, and wait until the control plane welcomes it',
  ]);
  expect(await machine.tree()).toEqual(before);
});

sealed('standalone is the program on the path and nothing else', async () => {
  await using machine = await host();
  const before = await machine.tree();
  await machine.ok(piped('--standalone'));
  const added = (await machine.tree()).filter((line) => !before.includes(line));
  expect(added.filter((line) => !/ (?:\/opt\/dumont-agent|\/usr\/local\/bin\/dumont-agent)/.test(line))).toEqual([]);
  expect(await machine.ok('dumont-agent --version')).toBe('dumont-agent 1.0.0\n');
  await machine.ok(piped('--uninstall --purge'));
  expect(await machine.tree()).toEqual(before);
});

sealed('a program on another prefix is found again by its link', async () => {
  await using machine = await host();
  const before = await machine.tree();
  await machine.ok(piped('--prefix /mnt/agent'), { env });
  expect(await machine.ok('/mnt/agent/current/dumont-supervisor status')).toMatch(/version +1\.0\.0/);
  await machine.ok(piped('--uninstall --purge'));
  expect(await machine.tree()).toEqual(before);
});

sealed('systemd is given a unit that leaves the workload alone, and starts it', async () => {
  const systemctl = `#!/bin/sh
echo "$*" >>/run/systemctl-calls
case $1 in
  start) setsid /opt/dumont-agent/current/dumont-supervisor run </dev/null >/dev/null 2>&1 & ;;
  is-active) exit 0 ;;
  stop) kill "$(cut -d ' ' -f 1 /var/lib/dumont-agent/supervisor.pid)" ;;
esac`;
  await using machine = await host({ fakes: { systemctl } });
  await machine.ok('mkdir -p /run/systemd/system /etc/systemd/system');
  const before = await machine.tree();
  await machine.ok(piped(), { env });
  const unit = await machine.ok('cat /etc/systemd/system/dumont-agent.service');
  for (const line of ['KillMode=process', 'Restart=always', `ExecStart=${SUPERVISOR} run`])
    expect(unit).toContain(line);
  const calls = await machine.ok('cat /run/systemctl-calls');
  expect(calls.trim().split('\n')).toEqual(['daemon-reload', 'enable --quiet dumont-agent', 'start dumont-agent']);
  await machine.ok(piped('--uninstall --purge --yes'));
  await machine.ok('rm /run/systemctl-calls');
  expect(await machine.tree()).toEqual(before);
});

sealed('no secret is in a process list, a log or a file that others may read', async () => {
  await using machine = await host();
  const password = 'the-password-of-the-snapshots';
  const said = await machine.ok(piped(), { env: { ...env, SNAPSHOT_PASSWORD: password } });
  const secrets = `-e ${TOKEN} -e ${password} -e secret-of-the-machine`;
  expect(said).not.toContain(TOKEN);
  expect(await machine.ok(`ps -eo args | grep ${secrets} | grep -v grep || true`)).toBe('');
  expect(await machine.ok(`grep ${secrets} -r /var/lib/dumont-agent/log || true`)).toBe('');
  expect(await machine.run(`grep -rl ${TOKEN} /etc /var /opt /home /tmp /run /usr/local`)).toMatchObject({
    stdout: '',
  });
  const readable = `/usr/bin/find /etc /var /opt /home /tmp -type f -perm /077 -exec grep -l ${secrets} {} +`;
  expect((await machine.run(readable)).stdout).toBe('');
  const open = await machine.ok('/usr/bin/find /etc/dumont-agent /var/lib/dumont-agent -perm /077');
  expect(open.split('\n').filter((path) => path !== '' && !path.includes('/seen-'))).toEqual([]);
});
