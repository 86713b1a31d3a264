import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { eventually } from './eventually.ts';
import type { Outcome } from './run-program.ts';
import { makeTempFolder } from './temp-folder.ts';

/** What the release server does wrong. */
export interface ReleaseFaults {
  readonly clockOffsetS?: number;
  readonly status?: number;
  /** One byte of a program's download is another. */
  readonly damaged?: boolean;
  /** A program's download breaks off after so many bytes. */
  readonly cutAfterBytes?: number;
  /** A program's download stands still after so many bytes. */
  readonly stallAfterBytes?: number;
}

export interface SealedHostOptions {
  /** The shell behind /bin/sh, and where every other tool comes from. */
  readonly tools?: 'gnu' | 'busybox';
  readonly fetcher?: 'curl' | 'wget' | 'none';
  /** Tools that are missing. */
  readonly without?: readonly string[];
  /** Scripts in the place of tools, by name. */
  readonly fakes?: Readonly<Record<string, string>>;
  /** More mounts of memory: the folder, and options as for mount -o. */
  readonly mounts?: Readonly<Record<string, string>>;
  /** Prepares the folder that is served, before anything starts. */
  readonly serve: (folder: string) => Promise<void>;
  /** Instead of the release server: runs beside the root, on its network, from a command given the folder. */
  readonly server?: {
    readonly command: (folder: string) => string;
    /** What it says once it serves. */
    readonly ready: string;
    /** Folders of it that the host sees, by where it sees them. */
    readonly shared?: Readonly<Record<string, string>>;
  };
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** An ordinary user with the home /home/user, instead of root. */
  readonly asUser?: boolean;
}

/** A control plane with an embedded database takes seconds, on a busy computer many. */
const START_TIMEOUT_MS = 60_000;

const GNU_TOOLS =
  'awk basename cat chmod cp cut date df dirname env find getconf grep gzip head id kill ldd ln ls mkdir mv openssl ps ' +
  'readlink rm rmdir sed setsid sha256sum sleep sort stat tail test touch tr uname wc';

/** Busybox has no getconf and no ldd; the rest are its own. */
const BUSYBOX_TOOLS =
  'awk basename cat chmod cp cut date df dirname env find grep gzip head id kill ln ls mkdir mv ps readlink rm rmdir sed ' +
  'setsid sha256sum sleep sort stat tail test touch tr uname wc';

/** Whether namespaces can be made here: it takes root and the tools of util-linux. */
export async function canSeal(): Promise<boolean> {
  if (process.getuid?.() !== 0) return false;
  const child = spawn('unshare', ['--mount', '--net', '--pid', '--fork', 'true'], { stdio: 'ignore' });
  const [code] = (await once(child, 'close').catch(() => [1])) as [number];
  const tools = ['busybox', 'curl', 'wget', 'nsenter', 'dash', 'openssl'].map((tool) => exists(`/usr/bin/${tool}`));
  return code === 0 && !(await Promise.all([...tools, exists('/usr/sbin/ip')])).includes(false);
}

/**
 * A host of its own in namespaces for mounts, network and processes: an empty root with chosen tools, a loopback with a
 * release server on 127.0.0.1:8766, and a first process that buries nobody, as in many containers. Nothing in it can
 * reach the machine that it runs on. Disposing ends all its processes.
 */
export async function startSealedHost(options: SealedHostOptions): Promise<SealedHost> {
  const folder = await makeTempFolder();
  try {
    await options.serve(folder.path);
    const boot = join(folder.path, 'boot.sh');
    await writeFile(boot, bootScript(folder.path, options));
    const args = ['--mount', '--net', '--pid', '--fork', '--kill-child', 'sh', boot];
    const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const isUp = () => {
      if (child.exitCode !== null) throw new Error('it ended');
      return said.includes(options.server?.ready ?? 'listening') && said.includes('sealed');
    };
    await eventually('the sealed host is up', isUp, START_TIMEOUT_MS).catch((error: unknown) => {
      child.kill('SIGKILL');
      throw new Error(`the sealed host did not come up: ${said}`, { cause: error });
    });
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
    return new SealedHost(child, Number(children.trim()), folder);
  } catch (error) {
    await folder[Symbol.asyncDispose]();
    throw error;
  }
}

export class SealedHost {
  readonly #unshare: ChildProcess;
  readonly #firstPid: number;
  readonly #folder: AsyncDisposable & { readonly path: string };

  constructor(unshare: ChildProcess, firstPid: number, folder: AsyncDisposable & { readonly path: string }) {
    this.#unshare = unshare;
    this.#firstPid = firstPid;
    this.#folder = folder;
  }

  /** What the release server serves. */
  get servedFolder(): string {
    return this.#folder.path;
  }

  async setFaults(faults: ReleaseFaults): Promise<void> {
    await writeFile(join(this.#folder.path, 'faults.json'), JSON.stringify(faults));
  }

  /** Runs a line of shell inside, with an environment of nothing but PATH, HOME and what is given. */
  async run(command: string, { env = {}, asUser = false }: RunOptions = {}): Promise<Outcome> {
    const enter = ['--target', `${this.#firstPid}`, '--mount', '--net', '--pid', '--root', '--wd'];
    const user = asUser ? ['--setuid', '1000', '--setgid', '1000'] : [];
    const home = asUser ? '/home/user' : '/root';
    const words = Object.entries({ PATH: '/bin:/usr/local/bin', HOME: home, ...env }).map(([k, v]) => `${k}=${v}`);
    const child = spawn(
      'nsenter',
      [...enter, ...user, '--', '/usr/bin/env', '-i', ...words, '/bin/sh', '-c', command],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [exitCode] = (await once(child, 'close')) as [number | null];
    return { exitCode, stdout, stderr };
  }

  /** As {@link run}, for what must go well. @returns what it said */
  async ok(command: string, options: RunOptions = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run(command, options);
    if (exitCode !== 0) throw new Error(`"${command}" ended with ${exitCode}:\n${stdout}${stderr}`);
    return stdout;
  }

  /** Every file and folder that can be written, a line each: kind, mode, size of a file, path, where a link leads. */
  async tree(): Promise<readonly string[]> {
    const places = '/etc /home /opt /root /run /usr/local /var /tmp /mnt';
    const listed = await this.ok(
      `/usr/bin/find ${places} -type f -printf 'f %m %s %p\\n' -o -type l -printf 'l %p -> %l\\n' -o -printf '%y %m %p\\n'`,
    );
    return listed.trim().split('\n').toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#unshare, 'close');
    process.kill(this.#firstPid, 'SIGKILL');
    await closed;
    await this.#folder[Symbol.asyncDispose]();
  }
}

function bootScript(folder: string, options: SealedHostOptions): string {
  const { tools = 'gnu', fetcher = 'curl', without = [], fakes = {}, mounts = {} } = options;
  const linked = (tools === 'gnu' ? GNU_TOOLS : BUSYBOX_TOOLS).split(' ').filter((tool) => !without.includes(tool));
  const source = tools === 'gnu' ? (tool: string) => `/usr/bin/${tool}` : () => '/usr/bin/busybox';
  const links = [
    ...linked.map((tool) => [tool, source(tool)]),
    ['sh', tools === 'gnu' ? '/usr/bin/dash' : source('sh')],
  ];
  if (fetcher === 'curl') links.push(['curl', '/usr/bin/curl']);
  if (fetcher === 'wget') links.push(['wget', tools === 'gnu' ? '/usr/bin/wget' : source('wget')]);
  const releases = join(import.meta.dirname, 'release-server-process.ts');
  const server = options.server?.command(folder) ?? `${process.execPath} ${releases} ${folder}`;
  const shared = Object.entries(options.server?.shared ?? {});
  return `set -eu
root=${folder}/root
mount --make-rprivate /
mkdir "$root" && mount -t tmpfs none "$root" && cd "$root"
mkdir -p usr proc dev tmp etc opt var/lib var/log home/user root run bin mnt
chmod 1777 tmp && chown 1000:1000 home/user && chmod 700 root
mount --bind /usr usr && mount -o remount,ro,bind usr
mount -t tmpfs -o mode=755 none usr/local && mkdir -m 755 usr/local/bin
ln -s usr/lib lib && ln -s usr/lib64 lib64
mount --rbind /dev dev
mount -t proc proc proc
cp /etc/ld.so.cache etc/
printf 'root:x:0:0::/root:/bin/sh\\nuser:x:1000:1000::/home/user:/bin/sh\\n' >etc/passwd
${links.map(([name, target]) => `ln -s ${target} bin/${name}`).join('\n')}
${Object.entries(fakes)
  .map(
    ([name, text]) =>
      `rm -f bin/${name}\ncat >bin/${name} <<'END_OF_FAKE'\n${text}\nEND_OF_FAKE\nchmod 755 bin/${name}`,
  )
  .join('\n')}
${Object.entries(mounts)
  .map(([path, flags]) => `mkdir -p .${path} && mount -t tmpfs -o ${flags} none .${path}`)
  .join('\n')}
${shared.map(([path, of]) => `mkdir -p .${path} ${folder}/${of} && mount --bind ${folder}/${of} .${path}`).join('\n')}
chmod 755 . bin etc opt var var/lib var/log home run mnt usr/local
ip link set lo up
${server} &
exec chroot "$root" /bin/sh -c 'echo sealed; exec sleep 1000000'
`;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
