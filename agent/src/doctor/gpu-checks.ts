import { execFile } from 'node:child_process';
import { access, readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import type { Situation } from './situation.ts';

/** A driver in trouble makes the tool hang rather than fail. */
const TOOL_TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 65_536;
const QUERY = 'index,name,driver_version,memory.total,memory.used,persistence_mode';
const NVIDIA_VENDOR = '0x10de';
const REPLACE = 'If it does not help, give this machine back: the fault is the host.';

export interface GpuFacts {
  readonly tool: 'absent' | 'hangs' | 'failed' | 'answered';
  /** What the tool wrote, on either stream. */
  readonly text: string;
  /** /dev/nvidia0 and its like. */
  readonly hasDeviceNodes: boolean;
  /** The kernel has the driver loaded. */
  readonly hasDriver: boolean;
  /** Graphics processors of NVIDIA on the bus, seen from here. */
  readonly busCount: number;
  readonly isContainer: boolean;
}

export const GPU_CHECKS: readonly Check[] = [
  { id: 'gpu', title: 'GPU and driver', run: async (situation) => judgeGpu(await readGpuFacts(situation)) },
];

/** Pure. No GPU is a valid state. */
export function judgeGpu(facts: GpuFacts): Finding {
  const { tool, text, hasDeviceNodes, hasDriver, busCount, isContainer } = facts;
  switch (tool) {
    case 'answered':
      return judgeList(text);
    case 'hangs':
      return fail('nvidia-smi hangs: the driver is stuck', `Restart the machine. ${REPLACE}`);
    case 'absent':
      if (hasDeviceNodes) {
        const fix = 'Install nvidia-utils, or start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility.';
        return warn('there are GPUs but no nvidia-smi: their load is not watched', fix);
      }
      if (busCount === 0 && !hasDriver) return skip('no GPU: fine for a standby or work on the CPU');
      return isContainer
        ? fail(
            'the host has GPUs, this container was given none',
            'Start it with --gpus all (NVIDIA container toolkit).',
          )
        : fail(`${busCount} NVIDIA GPU(s) without a driver`, 'Install the NVIDIA driver, then restart the machine.');
    case 'failed':
      return judgeFailure(facts);
  }
}

function judgeFailure({ text, hasDeviceNodes, hasDriver, busCount, isContainer }: GpuFacts): Finding {
  const line = text.trim().split('\n')[0]?.slice(0, 200) ?? '';
  if (/driver\/library version mismatch/i.test(text)) {
    const fix = 'The driver was updated while loaded: restart the machine';
    return fail(
      'the driver in the kernel and its library are of different versions',
      `${fix}${isContainer ? '’s host' : ''}.`,
    );
  }
  if (/lost|fallen off the bus|unable to determine the device handle/i.test(text)) {
    return fail(`a GPU was lost: ${line}`, 'Give this machine back: its hardware fails.');
  }
  if (/no devices were found/i.test(text) || !hasDeviceNodes) {
    if (busCount === 0 && !hasDriver && !isContainer) return skip('nvidia-smi finds no GPU, nor does the bus');
    const fix = isContainer ? 'Start the container with --gpus all.' : 'Run nvidia-modprobe, or restart the machine.';
    return fail(`there are no GPU device nodes (/dev/nvidia0): ${line}`, fix);
  }
  if (/couldn't communicate with the nvidia driver/i.test(text)) {
    return fail(
      'the NVIDIA driver is not loaded',
      'modprobe nvidia; after an update of the kernel, reinstall the driver.',
    );
  }
  if (/libnvidia-ml|nvml.*not found/i.test(text)) {
    const fix = 'Install the driver library, or start with NVIDIA_DRIVER_CAPABILITIES=compute,utility.';
    return fail('the driver library (libnvidia-ml) is missing', fix);
  }
  if (isContainer && /unknown error/i.test(text)) {
    return fail(`the container lost its access to the GPU: ${line}`, `Restart the container. ${REPLACE}`);
  }
  return fail(`nvidia-smi fails: ${line}`, `Look at dmesg for NVRM lines. ${REPLACE}`);
}

function judgeList(text: string): Finding {
  const gpus = text
    .trim()
    .split('\n')
    .map((line) => line.split(',').map((field) => field.trim()));
  const named = gpus.map(([, name, , total, used]) => `${name} (${used} of ${total} MiB in use)`);
  const detail = `${named.join('; ')}; driver ${gpus[0]?.[2] ?? 'unknown'}`;
  if (gpus.some((fields) => fields[5] === 'Disabled')) {
    return ok(`${detail}; persistence mode is off: the first use after a pause takes a second longer`);
  }
  return ok(detail);
}

async function readGpuFacts({ nvidiaSmi, container }: Situation): Promise<GpuFacts> {
  const [asked, nodes, hasDriver, busCount] = await Promise.all([
    askTool(nvidiaSmi),
    readdir('/dev').catch((): string[] => []),
    access('/proc/driver/nvidia/version').then(
      () => true,
      () => false,
    ),
    countOnBus(),
  ]);
  const hasDeviceNodes = nodes.some((name) => /^nvidia\d+$/.test(name));
  return { ...asked, hasDeviceNodes, hasDriver, busCount, isContainer: container !== null };
}

async function askTool(command: string): Promise<Pick<GpuFacts, 'tool' | 'text'>> {
  const args = [`--query-gpu=${QUERY}`, '--format=csv,noheader,nounits'];
  try {
    const options = { timeout: TOOL_TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES } as const;
    const { stdout } = await promisify(execFile)(command, args, options);
    return { tool: stdout.trim() === '' ? 'failed' : 'answered', text: stdout };
  } catch (error) {
    if (['ENOENT', 'EACCES'].includes(systemErrorCode(error) ?? '')) return { tool: 'absent', text: '' };
    const {
      stdout = '',
      stderr = '',
      killed = false,
    } = error as { stdout?: string; stderr?: string; killed?: boolean };
    return { tool: killed ? 'hangs' : 'failed', text: `${stdout}${stderr}` };
  }
}

async function countOnBus(): Promise<number> {
  const folder = '/sys/bus/pci/devices';
  const names = await readdir(folder).catch((): string[] => []);
  const read = (name: string, file: string) => readFile(`${folder}/${name}/${file}`, 'utf8').catch(() => '');
  const are = await Promise.all(
    names.map(async (name) => {
      if ((await read(name, 'vendor')).trim() !== NVIDIA_VENDOR) return false;
      // Display controllers; their sound and USB parts do not count.
      return (await read(name, 'class')).startsWith('0x03');
    }),
  );
  return are.filter(Boolean).length;
}
