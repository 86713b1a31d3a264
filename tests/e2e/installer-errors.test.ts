import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { canSeal, startSealedHost, type ReleaseFaults, type SealedHostOptions } from '../world/sealed-host.ts';
import { makeRelease } from '../world/stand-in-release.ts';

const sealed = test.skipIf(!(await canSeal()));

const URL = 'http://127.0.0.1:8766';
const INSTALL = `curl -fsSL ${URL}/install.sh | sh -s --`;
const SUPERVISOR = '/opt/dumont-agent/current/dumont-supervisor';

interface Failure {
  readonly name: string;
  readonly says: RegExp;
  readonly host?: Partial<SealedHostOptions>;
  readonly faults?: ReleaseFaults;
  readonly args?: string;
  readonly token?: string;
  readonly asUser?: boolean;
  readonly prepare?: string;
}

const FAILURES: readonly Failure[] = [
  {
    name: 'no network',
    args: '--url http://127.0.0.1:9',
    says: /no network: http:\/\/127\.0\.0\.1:9\S* does not answer/,
  },
  { name: 'a name that does not exist', args: '--url https://nowhere.invalid', says: /no network/ },
  { name: 'a certificate nobody trusts', args: '--url https://127.0.0.1:8443', says: /TLS connection to .* failed/ },
  { name: 'no build on the control plane', faults: { status: 503 }, says: /no build of the agent.*\n.*build:agent/ },
  { name: 'an unknown version', args: '--version 9.9.9', says: /release\.json is not there \(404\)/ },
  {
    name: 'a damaged download',
    faults: { damaged: true },
    says: /wrong checksum of dumont-agent-1\.0\.0-linux-x64\.gz/,
  },
  { name: 'a download that breaks off', faults: { cutAfterBytes: 2_000 }, says: /the download of .*\.gz broke off/ },
  {
    name: 'a clock that is ten minutes off',
    faults: { clockOffsetS: -600 },
    says: /this clock is \d+ s off.*\n.*set the clock/,
  },
  {
    name: 'a refused token',
    token: 'refused-token',
    says: /refused the enrolment token: token \[hidden\] was used before/,
  },
  { name: 'no token', token: '', says: /no enrolment token/ },
  { name: 'a mount with noexec', host: { mounts: { '/opt': 'noexec,mode=755' } }, says: /noexec/ },
  {
    name: 'a full disk',
    host: { mounts: { '/opt': 'size=1m,mode=755' } },
    says: /the disk is full: \/opt\/dumont-agent has \d MiB free, 21 MiB are needed/,
  },
  { name: 'musl', host: { fakes: { ldd: '#!/bin/sh\necho "musl libc (x86_64)" >&2; exit 1' } }, says: /musl/ },
  {
    name: 'an old glibc',
    host: { fakes: { getconf: '#!/bin/sh\necho "glibc 2.17"' } },
    says: /glibc 2\.17 is too old/,
  },
  {
    name: 'an unknown processor',
    host: { fakes: { uname: '#!/bin/sh\n[ "$1" = -s ] && echo Linux || echo riscv64' } },
    says: /no build for the processor riscv64/,
  },
  {
    name: 'no permission',
    asUser: true,
    args: '--prefix /opt/agent',
    says: /cannot create \/opt\/agent: no permission/,
  },
  {
    name: 'another program of the name',
    prepare: 'printf x >/usr/local/bin/dumont-agent',
    says: /another installation is in place/,
  },
  {
    name: 'a machine of another control plane',
    prepare: 'mkdir /etc/dumont-agent; printf "DUMONT_CONTROL_URL=\'https://other\'\\n" >/etc/dumont-agent/agent.env',
    says: /this machine belongs to https:\/\/other/,
  },
  { name: 'a missing tool', host: { without: ['gzip'] }, says: /the command gzip is missing/ },
  { name: 'a wrong option', args: '--frobnicate', says: /unknown option --frobnicate/ },
];

for (const failure of FAILURES) {
  sealed(`one clear line and a hint, and no litter: ${failure.name}`, async () => {
    await using machine = await startSealedHost({ serve: serveWithTls, ...failure.host });
    if (failure.prepare !== undefined) await machine.ok(failure.prepare);
    const script = await machine.ok(`curl -fsSL ${URL}/install.sh`);
    await machine.setFaults(failure.faults ?? {});
    const before = await machine.tree();
    const token = failure.token ?? 'one-time-token';
    const options = { env: { DUMONT_ENROL_TOKEN: token }, asUser: failure.asUser === true };
    const args = failure.args ?? '';
    const { exitCode, stderr } = await machine.run(
      `sh -s -- ${args} <<'END_OF_SCRIPT'\n${script}END_OF_SCRIPT`,
      options,
    );
    expect(stderr).toMatch(failure.says);
    expect(stderr).toMatch(/^dumont: error: .+\n {2}hint: .+\n$/);
    expect(exitCode).toBe(failure.name === 'a wrong option' ? 2 : 1);
    expect(await machine.tree()).toEqual(before);
  });
}

for (const fetcher of ['gnu', 'busybox'] as const) {
  sealed(`wget of ${fetcher} tells the same failures apart`, async () => {
    await using machine = await startSealedHost({ serve: serveWithTls, tools: fetcher, fetcher: 'wget' });
    await machine.ok(`wget -q -O /tmp/install.sh ${URL}/install.sh`);
    const env = { DUMONT_ENROL_TOKEN: 'one-time-token' };
    const said = async (args = '') => (await machine.run(`sh /tmp/install.sh ${args}`, { env })).stderr;
    expect(await said('--url http://127.0.0.1:9')).toContain('no network');
    expect(await said('--version 9.9.9')).toContain('(404)');
    await machine.setFaults({ status: 503 });
    expect(await said()).toContain('build:agent');
    await machine.setFaults({ damaged: true });
    expect(await said()).toContain('wrong checksum');
    await machine.setFaults({ cutAfterBytes: 2_000 });
    expect(await said()).toMatch(/broke off|wrong checksum/);
    await machine.setFaults({ clockOffsetS: 86_400 });
    expect(await said()).toContain('this clock is');
  });
}

sealed('a lost answer to the enrolment keeps the credential, with which the token works again', async () => {
  await using machine = await startSealedHost({ serve: serveWithTls });
  const { stderr } = await machine.run(INSTALL, { env: { DUMONT_ENROL_TOKEN: 'lost-answer' } });
  expect(stderr).toContain('the token is still good');
  await machine.ok('ls /var/lib/dumont-agent/credential.json');
  await machine.ok(INSTALL, { env: { DUMONT_ENROL_TOKEN: 'one-time-token' } });
});

sealed('a failed upgrade leaves the installation as it was', async () => {
  await using machine = await startSealedHost({ serve: serveWithTls });
  await machine.ok(INSTALL, { env: { DUMONT_ENROL_TOKEN: 'one-time-token' } });
  const [tree, pids] = [await machine.tree(), await machine.ok('cat /var/lib/dumont-agent/*.pid')];
  await makeRelease(machine.servedFolder, { version: '1.1.0', versionCommand: 'echo "dumont-agent 7.7.7"' });
  expect((await machine.run(`${INSTALL} --upgrade`)).stderr).toContain('says it is "dumont-agent 7.7.7"');
  await machine.setFaults({ damaged: true });
  expect((await machine.run(`${INSTALL} --upgrade`)).exitCode).toBe(1);
  expect(await machine.tree()).toEqual(tree);
  expect(await machine.ok('cat /var/lib/dumont-agent/*.pid')).toBe(pids);
});

sealed('an installation that is interrupted leaves nothing', async () => {
  await using machine = await startSealedHost({ serve: serveWithTls });
  await machine.ok(`curl -fsSL -o /tmp/install.sh ${URL}/install.sh`);
  await machine.setFaults({ stallAfterBytes: 2_000 });
  const before = await machine.tree();
  await machine.ok(
    `setsid sh /tmp/install.sh >/dev/null 2>&1 & installer=$!
    until ls /opt/dumont-agent/versions/.new-*/packed.gz >/dev/null 2>&1; do sleep 0.1; done
    kill -TERM -$installer; wait $installer; [ $? = 143 ]`,
    { env: { DUMONT_ENROL_TOKEN: 'one-time-token' } },
  );
  expect(await machine.tree()).toEqual(before);
});

sealed('a script whose download breaks off anywhere runs nothing', async () => {
  await using machine = await startSealedHost({ serve: serveWithTls });
  await machine.ok(`curl -fsSL -o /tmp/whole ${URL}/install.sh`);
  const bytes = Number(await machine.ok('wc -c </tmp/whole'));
  const before = await machine.tree();
  // Everywhere within the last lines, and in a hundred places before them.
  const lengths = [
    ...Array.from({ length: 100 }, (_, n) => Math.floor((bytes * n) / 100)),
    bytes - 10,
    bytes - 7,
    bytes - 2,
  ];
  await machine.ok(
    `for n in ${lengths.join(' ')}; do head -c $n /tmp/whole | DUMONT_ENROL_TOKEN=one-time-token sh >/dev/null 2>&1; done; true`,
  );
  expect(await machine.tree()).toEqual(before);
});

const shellcheck = promisify(execFile);
const hasShellcheck = await shellcheck('shellcheck', ['--version']).then(
  () => true,
  () => false,
);

test.skipIf(!hasShellcheck)('shellcheck finds nothing to say about the scripts', async () => {
  const folder = join(import.meta.dirname, '../../install');
  const scripts = ['install.sh', 'supervisor.sh', 'vast-onstart.sh'].map((name) => join(folder, name));
  const { stdout } = await shellcheck('shellcheck', ['--shell=sh', ...scripts]).catch(
    (error: { stdout: string }) => error,
  );
  expect(stdout).toBe('');
});

test('the onstart script fits what the market allows', async () => {
  const text = await readFile(join(import.meta.dirname, '../../install/vast-onstart.sh'), 'utf8');
  expect(Buffer.byteLength(text)).toBeLessThan(4_048);
});

sealed('a container that starts again has its agent, from the onstart script alone', async () => {
  await using machine = await startSealedHost({ serve: serveWithTls });
  const text = await readFile(join(import.meta.dirname, '../../install/vast-onstart.sh'), 'utf8');
  const env = { DUMONT_CONTROL_URL: URL, DUMONT_ENROL_TOKEN: 'one-time-token' };
  const start = `sh <<'END_OF_ONSTART'\n${text}END_OF_ONSTART`;
  const connected = `until grep -q welcomed /var/lib/dumont-agent/log/agent.log 2>/dev/null; do sleep 0.1; done`;
  await machine.ok(`${start}\n${connected}`, { env });
  await machine.ok('kill -9 $(cut -d " " -f 1 /var/lib/dumont-agent/supervisor.pid /var/lib/dumont-agent/agent.pid)');
  await machine.ok(`until ! ${SUPERVISOR} status; do sleep 0.1; done; : >/var/lib/dumont-agent/log/agent.log`);
  await machine.ok(`${start}\n${connected}`, { env });
});

/** A release, and a key and a certificate that nobody trusts. */
async function serveWithTls(folder: string): Promise<void> {
  await makeRelease(folder, { version: '1.0.0' });
  const request = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=nobody'.split(' ');
  const files = ['-keyout', join(folder, 'tls.key'), '-out', join(folder, 'tls.crt')];
  await promisify(execFile)('openssl', ['req', ...request, ...files]);
}
