import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(import.meta.resolve('@dumont/control-plane/cli/main.ts'));

export interface Finished {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly finished: Promise<Finished>;
  /** Resolves once stdout contains the text. */
  printed(text: string): Promise<void>;
  interrupt(): void;
}

/** Starts `dumont` as a user would, with nothing in its environment but what is given. */
export function startDumont(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Running {
  // No connection file unless the test names one: the user's own must not leak in.
  const env = { PATH: process.env['PATH'], DUMONT_CONNECTION_FILE: '/nonexistent/connection.json', ...environment };
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  const waiting: (() => void)[] = [];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const check of waiting) check();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const finished = once(child, 'close').then(() => ({ exitCode: child.exitCode, stdout, stderr }));
  return {
    finished,
    printed: (text) =>
      new Promise((resolve, reject) => {
        const check = () => {
          if (stdout.includes(text)) resolve();
        };
        waiting.push(check);
        check();
        void finished.then(() => reject(new Error(`ended without printing "${text}": ${stdout}${stderr}`)));
      }),
    interrupt: () => void child.kill('SIGINT'),
  };
}

/** Runs `dumont` to its end. */
export function dumont(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Finished> {
  return startDumont(args, environment).finished;
}
