import { execFile } from 'node:child_process';
import type { ActionResult } from '@dumont/shared/protocol/command.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { NVIDIA_SMI_QUERY, parseNvidiaSmiLine } from './parse-nvidia-smi.ts';

/** The first call on a machine loads the driver, which takes seconds; a tool that hangs does so for good. */
const TIMEOUT_MS = 30_000;
const MAX_OUTPUT_BYTES = 256 * 1_024;

type GpuAnswer = Extract<ActionResult, { readonly name: 'sample-gpus' }>;

/** Runs nvidia-smi once. That it is missing, fails or hangs is part of the answer. @throws the signal's reason */
export async function askNvidiaSmi(
  command: string,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<GpuAnswer> {
  const startMs = clock.monotonicMs();
  // The driver's version is of the machine, and the same on every line.
  const query = `driver_version,${NVIDIA_SMI_QUERY}`;
  const { output, error } = await run(command, [`--query-gpu=${query}`, '--format=csv,noheader,nounits'], signal);
  signal.throwIfAborted();
  const lines = output.split('\n').flatMap((line) => {
    const comma = line.indexOf(',');
    const gpu = comma === -1 ? null : parseNvidiaSmiLine(line.slice(comma + 1));
    return gpu === null ? [] : [{ driver: line.slice(0, comma).trim(), gpu }];
  });
  return {
    name: 'sample-gpus',
    isThere: error === null,
    driver: lines[0]?.driver.slice(0, 64) ?? null,
    gpus: lines.map(({ gpu }) => gpu).slice(0, 64),
    tookMs: clock.monotonicMs() - startMs,
    error: error?.slice(0, 1_000) ?? null,
  };
}

function run(
  command: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly output: string; readonly error: string | null }> {
  return new Promise((resolve) => {
    const options = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES, signal } as const;
    execFile(command, args, options, (error, stdout, stderr) => {
      const text = stderr.trim() || stdout.trim();
      const isMissing = error?.code === 'ENOENT';
      const why = isMissing ? `there is no ${command} on this machine` : `${command} failed: ${text || error?.message}`;
      resolve({ output: stdout, error: error === null ? null : why });
    });
  });
}
