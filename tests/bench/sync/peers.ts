import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { eventually } from '../../world/eventually.ts';
import { DelayRelay } from '../../world/delay-relay-process.ts';

const READY_MS = 600_000;

/** Which of the programs that others use are on this machine. */
export function installed(program: 'rsync' | 'lsyncd'): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** An rsync daemon that serves one folder, behind the same wire as our standby. */
export class RsyncServer implements AsyncDisposable {
  /** Of the folder, with the wire's delay. */
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #relay: DelayRelay;

  static async start(folder: string, stateDir: string, delayMs: number): Promise<RsyncServer> {
    const port = await freePort();
    const config = join(stateDir, 'rsyncd.conf');
    const owner = process.getuid?.() === 0 ? 'uid = root\ngid = root\n' : '';
    writeFileSync(config, `use chroot = no\n${owner}[copy]\npath = ${folder}\nread only = no\n`);
    const args = ['--daemon', '--no-detach', '--address=127.0.0.1', `--port=${port}`, `--config=${config}`];
    const child = spawn('rsync', args, { stdio: 'ignore' });
    const relay = await DelayRelay.start(port, delayMs);
    const url = `rsync://127.0.0.1:${relay.port}/copy`;
    await eventually('rsync serves', () => spawnSync('rsync', [`${url}/`], { stdio: 'ignore' }).status === 0);
    return new RsyncServer(url, child, relay);
  }

  private constructor(url: string, child: ChildProcess, relay: DelayRelay) {
    this.url = url;
    this.#child = child;
    this.#relay = relay;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#child);
    await this.#relay[Symbol.asyncDispose]();
  }
}

/** @returns how long one run took, and its bytes on the wire, both ways */
export function runRsync(source: string, url: string): { readonly tookMs: number; readonly bytes: number } {
  const begunMs = systemClock.monotonicMs();
  const args = ['-a', '--inplace', '--no-whole-file', '--stats', source, url];
  const { stdout } = spawnSync('rsync', args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  const bytes = [...stdout.matchAll(/Total bytes (?:sent|received): ([\d,.]+)/g)]
    .map(([, count]) => Number((count ?? '').replaceAll(/[,.]/g, '')))
    .reduce((sum, one) => sum + one, 0);
  return { tookMs: systemClock.monotonicMs() - begunMs, bytes };
}

/** lsyncd that follows a folder at its fastest. */
export class Lsyncd implements AsyncDisposable {
  readonly #child: ChildProcess;

  /** Resolves when it follows. */
  static async start(source: string, url: string, stateDir: string): Promise<Lsyncd> {
    const config = join(stateDir, 'lsyncd.lua');
    const log = join(stateDir, 'lsyncd.log');
    writeFileSync(
      config,
      `settings { nodaemon = true, logfile = "${log}", statusFile = "${log}.status", statusInterval = 1, inotifyMode = "CloseWrite or Modify" }
sync { default.rsync, source = "${source}", target = "${url}", delay = 0, rsync = { archive = true, whole_file = false } }
`,
    );
    const child = spawn('lsyncd', [config], { stdio: ['ignore', 'pipe', 'ignore'] });
    let said = '';
    child.stdout.on('data', (text: Buffer) => {
      said = (said + text.toString()).slice(-4_096);
    });
    await eventually('lsyncd follows', () => /Startup of .* finished/.test(said), READY_MS);
    return new Lsyncd(child);
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return end(this.#child);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
