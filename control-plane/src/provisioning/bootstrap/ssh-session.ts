import { createHash } from 'node:crypto';
import ssh2 from 'ssh2';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import type { MachineAddress } from '../../providers/provider.ts';

/** TCP, handshake and login together; a machine that is up takes one or two seconds. */
const CONNECT_TIMEOUT_MS = 15_000;
/** Kept of what a script writes to its standard error: the end says why. */
const MAX_STDERR_CHARACTERS = 4_096;
/** What a script wrote before it failed may come after its exit status. */
const LAST_WORDS_MS = 1_000;

/**
 * Reads the script from standard input. What it says goes to a file, so that it goes on when we hang up, and the end of
 * that file to us when it fails.
 */
const RUN_SCRIPT = `sh -c 'umask 077; log=/var/log/dumont-bootstrap.log; sh -s >"$log" 2>&1 || { code=$?; tail -n 20 "$log" >&2; exit "$code"; }'`;

export interface SshLogin {
  readonly address: MachineAddress;
  readonly user: string;
  readonly privateKey: string;
  readonly clock: Clock;
  /** Resolves when the server's host key, by its SHA-256 in base64, is the right one; rejects with a DumontError otherwise. */
  verifyHostKey(fingerprint: string): Promise<void>;
}

/** A connection to a machine's SSH server, logged in. */
export class SshSession implements AsyncDisposable {
  readonly #client: ssh2.Client;
  readonly #login: SshLogin;
  readonly #closed: Promise<void>;

  private constructor(client: ssh2.Client, login: SshLogin, closed: Promise<void>) {
    this.#client = client;
    this.#login = login;
    this.#closed = closed;
  }

  /**
   * Connects and logs in.
   * @throws {DumontError} UNAVAILABLE, retryable, when the server does not answer or does not let us in (yet); what
   *   `verifyHostKey` rejected with; the signal's reason
   */
  static async open(login: SshLogin, { signal }: { readonly signal: AbortSignal }): Promise<SshSession> {
    const { address, user: username, privateKey, clock } = login;
    signal.throwIfAborted();
    using deadline = new Deadline(clock, CONNECT_TIMEOUT_MS, signal);
    const client = new ssh2.Client();
    const closed = new Promise<void>((resolve) => client.once('close', () => resolve()));
    let objection: unknown;
    const ready = new Promise<void>((resolve, reject) => {
      client.once('ready', resolve);
      // Also after the login: a connection that breaks is no crash of ours.
      client.on('error', reject);
      client.once('close', () => reject(new Error('the connection was closed')));
      deadline.signal.addEventListener('abort', () => reject(deadline.signal.reason as Error), { once: true });
      client.connect({
        ...address,
        username,
        privateKey,
        // Bounded by our own clock.
        readyTimeout: 0,
        hostVerifier: (key: Buffer, verify: (isRight: boolean) => void) => {
          login.verifyHostKey(createHash('sha256').update(key).digest('base64')).then(
            () => verify(true),
            (error: unknown) => {
              objection = error;
              verify(false);
            },
          );
        },
      });
    });
    try {
      await ready;
      return new SshSession(client, login, closed);
    } catch (error) {
      client.destroy();
      signal.throwIfAborted();
      if (objection !== undefined) throw objection;
      const why = deadline.expired ? `no login within ${CONNECT_TIMEOUT_MS} ms` : (error as Error).message;
      throw new DumontError('UNAVAILABLE', `SSH to ${address.host}:${address.port} as ${username}: ${why}`, {
        retryable: true,
        cause: error,
      });
    }
  }

  /**
   * Runs a shell script as root and waits for its end. The script goes over standard input: nobody who lists processes
   * sees it. What it leaves running stays, and so does the script itself when the wait is aborted.
   * @throws {DumontError} PROVIDER with the line that says why when the script fails; UNAVAILABLE, retryable, when
   *   the connection breaks before it ended; the signal's reason
   */
  async run(script: string, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted();
    const { user, address, clock } = this.#login;
    const { promise, resolve, reject } = Promise.withResolvers<number | null>();
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    let exitCode: number | null = null;
    let cancel = () => {};
    void this.#closed.then(() => resolve(exitCode));
    let stderr = '';
    this.#client.exec(user === 'root' ? RUN_SCRIPT : `sudo -n ${RUN_SCRIPT}`, (error, channel) => {
      if (error !== undefined) return reject(error);
      channel.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr = `${stderr}${text}`.slice(-MAX_STDERR_CHARACTERS);
      });
      channel.resume();
      channel.on('error', reject);
      channel.on('close', () => resolve(exitCode));
      channel.on('exit', (code: number | null) => {
        exitCode = code;
        // A daemon that it left may hold the channel open, so its close is not waited for.
        if (code === 0) resolve(0);
        else cancel = clock.after(LAST_WORDS_MS, () => resolve(code));
      });
      channel.end(script);
    });
    try {
      const code = await promise;
      if (code === 0) return;
      const lines = stderr.trim().split('\n');
      const last = lines.findLast((line) => line.includes('error')) ?? lines.at(-1);
      if (code !== null) throw new DumontError('PROVIDER', `the installer ended with ${code}: ${last}`);
      throw new Error('the connection broke');
    } catch (error) {
      signal.throwIfAborted();
      if (isDumontError(error)) throw error;
      const what = `installing over SSH at ${address.host}:${address.port}: ${(error as Error).message}`;
      throw new DumontError('UNAVAILABLE', what, { retryable: true, cause: error });
    } finally {
      cancel();
      signal.removeEventListener('abort', abort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.end();
    this.#client.destroy();
    await this.#closed;
  }
}
