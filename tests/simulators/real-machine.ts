import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  identify,
  killMachine,
  MACHINE_REF_VARIABLE,
  type MachineProcesses,
} from '@dumont/control-plane/providers/local/process-tree.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';

export interface RealMachineOptions {
  /** Unique among all machines of this computer. */
  readonly ref: string;
  /** Run by `sh` when the machine boots. */
  readonly script: string;
  /** Contents of files below its folder, which is its HOME, by path. */
  readonly files?: Readonly<Record<string, string>>;
  /** Where its sshd answers. */
  readonly host: string;
  readonly port: number;
}

/**
 * What runs inside a simulated cloud's machine: a folder, a shell with the startup script and all that it starts, and a
 * port that greets like an sshd. Disposing of it leaves nothing.
 */
export class RealMachine implements AsyncDisposable {
  readonly folder: string;
  readonly #processes: MachineProcesses;
  readonly #door: Server;
  readonly #guests = new Set<Socket>();

  private constructor(folder: string, processes: MachineProcesses, door: Server) {
    this.folder = folder;
    this.#processes = processes;
    this.#door = door;
    door.on('connection', (socket) => {
      this.#guests.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#guests.delete(socket));
      socket.write('SSH-2.0-OpenSSH_9.2\r\n');
    });
  }

  static async boot({ ref, script, files = {}, host, port }: RealMachineOptions): Promise<RealMachine> {
    const folder = await mkdtemp(join(tmpdir(), 'dumont-cloud-machine-'));
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), content, { mode: 0o700 });
    }
    const path = join(folder, 'startup.sh');
    await writeFile(path, script, { mode: 0o700 });
    const log = await open(join(folder, 'startup.log'), 'a');
    const shell = spawn('sh', [path], {
      detached: true,
      cwd: folder,
      // A stranger's computer: nothing of ours but where programs are.
      env: { PATH: process.env['PATH'], HOME: folder, TMPDIR: folder, [MACHINE_REF_VARIABLE]: ref },
      stdio: ['ignore', log.fd, log.fd],
    });
    await once(shell, 'spawn');
    // Now: once the script has ended, its process id may be a stranger's.
    const leader = shell.pid === undefined ? null : await identify(shell.pid);
    await log.close();
    const door = createServer();
    door.listen(port, host);
    await once(door, 'listening');
    return new RealMachine(folder, { ref, leader }, door);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#door, 'close');
    this.#door.close();
    for (const guest of this.#guests) guest.destroy();
    await closed;
    await killMachine(this.#processes, systemClock);
    await rm(this.folder, { recursive: true, force: true });
  }
}
