import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { GpuSample } from '@dumont/shared/protocol/heartbeat.ts';
import { backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { NVIDIA_SMI_QUERY, parseNvidiaSmiLine } from './parse-nvidia-smi.ts';

/** One tool process for the agent's whole life costs less than one per sample: its start loads the driver library. */
const SAMPLE_INTERVAL_MS = 1_000;
/** A stream silent for this long hangs in the driver. */
const STALL_MS = 15_000;
/** A driver may be installed while we run; looking once a minute costs nothing. */
const ABSENT_RETRY_MS = 60_000;
const RESTART = { baseMs: 1_000, capMs: 60_000 } as const;
/** No line of the tool comes near; a longer one is not ours to keep in memory. */
const MAX_LINE_CHARS = 4_096;

export interface GpuSamplerOptions {
  /** Name or path of nvidia-smi. */
  readonly command: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Overrides of the bounds above, for hosts with other habits and for tests. */
  readonly absentRetryMs?: number;
  readonly restart?: { readonly baseMs: number; readonly capMs: number };
  /** Called after every line that was a sample. */
  readonly onSample?: () => void;
}

/**
 * Streams GPU samples from one long-lived nvidia-smi. No such tool is a normal state: no GPUs. When the tool dies or
 * hangs it is started again with backoff, and until it answers there are no samples rather than old ones.
 */
export class GpuSampler implements AsyncDisposable {
  readonly #options: GpuSamplerOptions;
  readonly #samples = new Map<number, GpuSample>();
  #child: ChildProcess | null = null;
  #exited: Promise<void> = Promise.resolve();
  #cancelTimer = () => {};
  #cancelStall = () => {};
  #attempt = 0;
  #disposed = false;
  #saidAbsent = false;

  constructor(options: GpuSamplerOptions) {
    this.#options = options;
  }

  /** Starts sampling; call once. */
  start(): void {
    this.#spawn();
  }

  /** The newest sample of every GPU, by index; empty when none is known. */
  latest(): readonly GpuSample[] {
    return [...this.#samples.values()].sort((a, b) => a.index - b.index);
  }

  /** Mean over the GPUs that report it, null without one. */
  utilPct(): number | null {
    const known = [...this.#samples.values()].flatMap((gpu) => (gpu.utilPct === null ? [] : [gpu.utilPct]));
    return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#cancelTimer();
    this.#cancelStall();
    this.#child?.kill('SIGKILL');
    await this.#exited;
  }

  #spawn(): void {
    if (this.#disposed) return;
    let child: ChildProcessByStdio<null, Readable, null>;
    try {
      child = this.#launch();
    } catch (error) {
      // Node throws what it finds at once, for example ETXTBSY while a driver update replaces the tool.
      this.#onEnd('failed', toDumontError(error).message);
      return;
    }
    this.#child = child;
    this.#readLines(child.stdout);
    this.#watchForStall();
    this.#exited = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#onGone(systemErrorCode(error) === 'ENOENT' ? 'absent' : 'failed', error.message);
        resolve();
      });
      child.once('close', (code, signal) => {
        this.#onGone('failed', signal === null ? `exit code ${code}` : `killed by ${signal}`);
        resolve();
      });
    });
  }

  #launch(): ChildProcessByStdio<null, Readable, null> {
    return spawn(
      this.#options.command,
      [`--query-gpu=${NVIDIA_SMI_QUERY}`, '--format=csv,noheader,nounits', '-lms', String(SAMPLE_INTERVAL_MS)],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
  }

  #readLines(stdout: Readable): void {
    let rest = '';
    stdout.setEncoding('utf8');
    stdout.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = (lines.pop() ?? '').slice(0, MAX_LINE_CHARS);
      for (const line of lines) this.#onLine(line);
    });
  }

  #onLine(line: string): void {
    const sample = parseNvidiaSmiLine(line);
    if (sample === null) return;
    this.#samples.set(sample.index, sample);
    this.#attempt = 0;
    this.#saidAbsent = false;
    this.#watchForStall();
    this.#options.onSample?.();
  }

  #watchForStall(): void {
    this.#cancelStall();
    this.#cancelStall = this.#options.clock.after(STALL_MS, () => this.#child?.kill('SIGKILL'));
  }

  #onGone(kind: 'absent' | 'failed', reason: string): void {
    if (this.#child === null) return;
    this.#child = null;
    this.#onEnd(kind, reason);
  }

  #onEnd(kind: 'absent' | 'failed', reason: string): void {
    this.#samples.clear();
    this.#cancelStall();
    if (this.#disposed) return;
    const { clock, random, log, command } = this.#options;
    let retryInMs = this.#options.absentRetryMs ?? ABSENT_RETRY_MS;
    if (kind === 'failed') {
      retryInMs = backoffMs(this.#attempt, this.#options.restart ?? RESTART, random);
      this.#attempt += 1;
      log.warn({ event: 'gpu-sampler-died', command, reason, retryInMs: Math.round(retryInMs) }, 'nvidia-smi ended');
    } else if (!this.#saidAbsent) {
      this.#saidAbsent = true;
      log.info({ event: 'gpu-sampler-absent', command, retryInMs }, 'no nvidia-smi: this machine reports no GPU');
    }
    this.#cancelTimer = clock.after(retryInMs, () => this.#spawn());
  }
}
