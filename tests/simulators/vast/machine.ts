import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { access, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MachineNetwork } from '@dumont/control-plane/providers/local/machine-network.ts';
import {
  continueMachine,
  identify,
  killMachine,
  MACHINE_REF_VARIABLE,
  stopMachine,
} from '@dumont/control-plane/providers/local/process-tree.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';

const SSHD = '/usr/sbin/sshd';
const LOOPBACK = '127.0.0.1';
/** Of sshd on a busy computer. */
const SSH_TIMEOUT_MS = 20_000;

export interface MachineOrder {
  /** Unique on this computer; marks every process of the machine. */
  readonly ref: string;
  /** The machine's own; its disk is in it. */
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly onstart: string;
  /** Inner ports to open besides SSH. */
  readonly ports: readonly number[];
}

/** Throws, naming what to install, where machines cannot be real. */
export async function requireSsh(): Promise<void> {
  const isThere = await access(SSHD).then(
    () => true,
    () => false,
  );
  if (!isThere) throw new Error(`${SSHD} is missing: machines need it (Debian: apt-get install openssh-server)`);
}

/**
 * The processes of one rented machine: an OpenSSH server and the start script, for real. As root each machine has a root
 * folder and a process table of its own (mount and PID namespaces), so that it is installed in as a container would be, and
 * ends with its first process, which ends with us. As another user it is a tree of processes with a home of its own.
 */
export class Machine {
  readonly #order: MachineOrder;
  readonly #sealed = process.getuid?.() === 0 && existsSync('/usr/bin/unshare');
  #child: ChildProcess | null = null;
  #network: MachineNetwork | null = null;
  #ports: ReadonlyMap<number, number> = new Map();

  constructor(order: MachineOrder) {
    this.#order = order;
  }

  /** Outer ports by inner ones while it runs; 22 is SSH. */
  get ports(): ReadonlyMap<number, number> {
    return this.#ports;
  }

  /** The root folder as the machine sees it. */
  get root(): string {
    return join(this.#order.folder, 'root');
  }

  /** Boots it, also again after {@link halt}: its disk is kept. Resolves when SSH answers. */
  async start(authorizedKeys: readonly string[]): Promise<void> {
    const { ports } = this.#order;
    const sshPort = await freePort();
    await this.#prepare(sshPort);
    await this.authorize(authorizedKeys);
    this.#network = await MachineNetwork.open(null, {
      cut: false,
      inbound: { host: LOOPBACK, ports: [sshPort, ...ports] },
    });
    const outer = this.#network.inboundPorts;
    this.#ports = new Map([
      [22, must(outer.get(sshPort), 'opened')],
      ...ports.map((port) => [port, must(outer.get(port), 'opened')] as const),
    ]);
    const log = await open(join(this.#order.folder, 'boot.log'), 'a', 0o600);
    try {
      this.#child = spawn('sh', [join(this.#order.folder, 'boot.sh')], {
        cwd: this.root,
        env: this.#environment(),
        detached: true,
        // Its first process ends when this pipe does: with us, at the latest.
        stdio: ['pipe', log.fd, log.fd],
      });
      await once(this.#child, 'spawn');
    } finally {
      await log.close();
    }
    await this.#sshAnswers(sshPort);
  }

  /** Replaces the keys that are let in. */
  async authorize(keys: readonly string[]): Promise<void> {
    await mkdir(join(this.root, 'root/.ssh'), { recursive: true, mode: 0o700 });
    await writeFile(join(this.root, 'root/.ssh/authorized_keys'), keys.map((key) => `${key}\n`).join(''), {
      mode: 0o600,
    });
  }

  /** Kills every process; the disk stays. */
  async halt(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    this.#ports = new Map();
    await this.#network?.[Symbol.asyncDispose]();
    this.#network = null;
    if (child === null) return;
    const leader = await identify(must(child.pid, 'it was spawned'));
    child.kill('SIGKILL');
    await killMachine({ ref: this.#order.ref, leader }, systemClock);
  }

  /** The host loses its network: nothing moves any more, and nobody is told. */
  async freeze(): Promise<void> {
    this.#network?.cut();
    await stopMachine(await this.#processes(), systemClock);
  }

  async thaw(): Promise<void> {
    await continueMachine(await this.#processes(), systemClock);
    this.#network?.heal();
  }

  /** Kills it and deletes its disk. */
  async destroy(): Promise<void> {
    await this.halt();
    await rm(this.#order.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  async #processes() {
    const pid = this.#child?.pid;
    return { ref: this.#order.ref, leader: pid === undefined ? null : await identify(pid) };
  }

  async #prepare(sshPort: number): Promise<void> {
    const { folder, onstart } = this.#order;
    const etc = join(this.root, 'etc/ssh');
    await mkdir(etc, { recursive: true, mode: 0o755 });
    const hostKey = join(etc, 'host_key');
    if (!existsSync(hostKey)) {
      await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', this.#order.ref, '-f', hostKey]);
    }
    const seen = this.#sealed ? '' : this.root;
    await writeFile(join(etc, 'sshd_config'), sshConfig(seen, sshPort));
    await writeFile(join(folder, 'onstart.sh'), onstart, { mode: 0o700 });
    const start = firstProcess(seen, folder, this.#sealed);
    await writeFile(join(folder, 'init.sh'), start, { mode: 0o700 });
    await writeFile(join(folder, 'boot.sh'), this.#sealed ? sealedBoot(folder) : start, { mode: 0o700 });
  }

  #environment(): Record<string, string> {
    const { ref, environment } = this.#order;
    const places = this.#sealed
      ? { HOME: '/root', DATA_DIRECTORY: '/workspace' }
      : { HOME: join(this.root, 'root'), DUMONT_WORKSPACE_DIR: join(this.root, 'workspace') };
    const ports = [...this.#ports].map(([inner, outer]) => [`VAST_TCP_PORT_${inner}`, String(outer)]);
    return {
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      ...Object.fromEntries(ports),
      ...environment,
      ...places,
      [MACHINE_REF_VARIABLE]: ref,
    };
  }

  async #sshAnswers(port: number): Promise<void> {
    const deadlineMs = systemClock.monotonicMs() + SSH_TIMEOUT_MS;
    while (!(await isListening(port))) {
      if (systemClock.monotonicMs() > deadlineMs) {
        const said = await readFile(join(this.#order.folder, 'boot.log'), 'utf8').catch(() => '');
        throw new Error(`the machine's sshd did not come up: ${said}`);
      }
      await systemClock.sleep(20);
    }
  }
}

function sshConfig(root: string, port: number): string {
  return `Port ${port}
ListenAddress ${LOOPBACK}
HostKey ${root}/etc/ssh/host_key
AuthorizedKeysFile ${root}/root/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
Subsystem sftp internal-sftp
`;
}

/** Starts SSH and the user's script; as the first process of a container it buries nobody. */
function firstProcess(root: string, folder: string, isSealed: boolean): string {
  const onstart = isSealed ? '/root/onstart.sh' : `${folder}/onstart.sh`;
  return `#!/bin/sh
mkdir -p ${root}/var/log ${root}/workspace ${root}/root
${SSHD} -D -e -f ${root}/etc/ssh/sshd_config </dev/null >>${root}/var/log/sshd.log 2>&1 &
cd ${root}/root
sh ${onstart} </dev/null >>${root}/var/log/onstart.log 2>&1 &
exec cat >/dev/null
`;
}

/** A root of its own: the computer's programs, read-only, and else what the machine wrote itself. */
function sealedBoot(folder: string): string {
  return `#!/bin/sh
exec unshare --mount --pid --fork --kill-child sh -c '
set -eu
root=${folder}/root
mount --make-rprivate /
cd "$root"
mkdir -p usr proc dev tmp etc opt var/lib var/log var/tmp var/empty root run/sshd workspace local/bin
chmod 755 . etc opt var var/lib var/log run run/sshd workspace local local/bin
chmod 1777 tmp var/tmp
chmod 700 root
mount --bind /usr usr
mount -o remount,ro,bind usr
mount --bind local usr/local
for name in bin sbin lib lib64; do ln -sfn "usr/$name" "$name"; done
mount --rbind /dev dev
mount -t proc proc proc
cp -L /etc/ld.so.cache /etc/hosts /etc/resolv.conf etc/
[ -d etc/ssl ] || cp -rL /etc/ssl etc/ || true
printf "passwd: files\\nshadow: files\\ngroup: files\\nhosts: files dns\\n" >etc/nsswitch.conf
printf "root:*:0:0::/root:/bin/sh\\nsshd:*:100:65534::/run/sshd:/usr/sbin/nologin\\n" >etc/passwd
printf "root:*:0:\\nnogroup:*:65534:\\n" >etc/group
cp ${folder}/onstart.sh root/onstart.sh
cp ${folder}/init.sh root/.init.sh
exec chroot "$root" /bin/sh /root/.init.sh
'
`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, LOOPBACK);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const closed = once(server, 'close');
  server.close();
  await closed;
  return port;
}

/** By the kernel's table, so that nobody's log has a visitor. */
async function isListening(port: number): Promise<boolean> {
  const table = await readFile('/proc/net/tcp', 'utf8');
  const address = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  return table.split('\n').some((line) => line.includes(`0100007F${address}`) && line.includes(' 0A '));
}
