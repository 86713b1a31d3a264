import { lastOf } from '@dumont/agent/doctor/agent-log.ts';
import type { CheckStatus } from '@dumont/agent/doctor/check.ts';
import { nameContainer, type ContainerSigns } from '@dumont/agent/doctor/container.ts';
import { judgeDisk, type DiskFacts } from '@dumont/agent/doctor/disk-checks.ts';
import { judgeGpu, type GpuFacts } from '@dumont/agent/doctor/gpu-checks.ts';
import { judgePlatform } from '@dumont/agent/doctor/host-checks.ts';
import { judgeWatching, type WatchFacts } from '@dumont/agent/doctor/limit-checks.ts';
import { findMount } from '@dumont/agent/doctor/mounts.ts';
import { expect, test } from 'vitest';

const GIB = 2 ** 30;
const NO_GPU: GpuFacts = {
  tool: 'absent',
  text: '',
  hasDeviceNodes: false,
  hasDriver: false,
  busCount: 0,
  isContainer: false,
};
const HOST: GpuFacts = { ...NO_GPU, tool: 'failed', hasDeviceNodes: true, hasDriver: true, busCount: 1 };

test.each<[string, GpuFacts, CheckStatus, RegExp]>([
  ['no GPU at all', NO_GPU, 'skip', /no GPU/],
  ['a GPU without a driver', { ...NO_GPU, busCount: 2 }, 'fail', /without a driver/],
  ['a container that was given none', { ...NO_GPU, busCount: 8, isContainer: true }, 'fail', /given none/],
  ['GPUs but no tool', { ...NO_GPU, hasDeviceNodes: true }, 'warn', /no nvidia-smi/],
  ['a tool that hangs', { ...HOST, tool: 'hangs' }, 'fail', /hangs/],
  [
    'an updated driver',
    { ...HOST, text: 'Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.86' },
    'fail',
    /different versions/,
  ],
  [
    'a driver that is not loaded',
    { ...HOST, text: "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver." },
    'fail',
    /not loaded/,
  ],
  [
    'no device nodes',
    { ...HOST, hasDeviceNodes: false, isContainer: true, text: 'No devices were found' },
    'fail',
    /nodes/,
  ],
  [
    'a GPU that fell off the bus',
    { ...HOST, text: 'Unable to determine the device handle: GPU is lost.' },
    'fail',
    /lost/,
  ],
  [
    'a container that lost its access',
    { ...HOST, isContainer: true, text: 'Failed to initialize NVML: Unknown Error' },
    'fail',
    /lost its access/,
  ],
  ['no library', { ...HOST, text: "couldn't find libnvidia-ml.so library" }, 'fail', /library/],
  [
    'a healthy pair',
    {
      ...HOST,
      tool: 'answered',
      text: '0, NVIDIA A100, 570.86, 81920, 12, Enabled\n1, NVIDIA A100, 570.86, 81920, 0, Enabled\n',
    },
    'ok',
    /A100 \(12 of 81920 MiB in use\); NVIDIA A100.*driver 570\.86$/,
  ],
])('of %s the doctor says what it is', (_name, facts, status, detail) => {
  const finding = judgeGpu(facts);
  expect(finding).toMatchObject({ status, detail: expect.stringMatching(detail) });
  expect(finding.fix === undefined).toBe(status === 'ok' || status === 'skip');
});

const WATCHES: WatchFacts = { folderCount: 100, isAtLeast: false, maxWatches: 8_192, trial: null, isContainer: false };

test('too few watches are named with what happens then, and with a remedy that exists where we are', () => {
  expect(judgeWatching(WATCHES).status).toBe('ok');
  const many = { ...WATCHES, folderCount: 20_000 };
  const onHost = judgeWatching(many);
  expect(onHost).toMatchObject({ status: 'warn', detail: expect.stringContaining('rescanned every 10 s') });
  expect(onHost.fix).toContain('sysctl -w fs.inotify.max_user_watches=65536');
  expect(judgeWatching({ ...many, isContainer: true }).fix).toContain('A container cannot raise');
  expect(judgeWatching({ ...WATCHES, trial: 'ENOSPC' }).detail).toContain('watches (8192) are taken');
  expect(judgeWatching({ ...WATCHES, trial: 'EMFILE' }).fix).toContain('max_user_instances');
});

const DISK: DiskFacts = {
  path: '/workspace',
  mount: { point: '/', type: 'ext4', options: new Set(['rw']) },
  freeBytes: 50 * GIB,
  totalBytes: 100 * GIB,
  freeInodes: 1_000,
  totalInodes: 2_000,
};
const NEED = { lowBytes: 5 * GIB, keeps: true };

test.each<[string, Partial<DiskFacts>, CheckStatus]>([
  ['with room', {}, 'ok'],
  ['that is nearly full', { freeBytes: 2 * GIB }, 'warn'],
  ['that is full', { freeBytes: 10 }, 'fail'],
  ['out of inodes', { freeInodes: 3 }, 'warn'],
  ['without a number of inodes', { freeInodes: 0, totalInodes: 0 }, 'ok'],
  ['mounted read-only', { mount: { point: '/', type: 'ext4', options: new Set(['ro']) } }, 'fail'],
  ['in memory', { mount: { point: '/', type: 'tmpfs', options: new Set(['rw']) } }, 'warn'],
])('a disk %s gets its word', (_name, change, status) => {
  expect(judgeDisk({ ...DISK, ...change }, NEED).status).toBe(status);
});

test('the mount of a path is the longest above it, of several the last', () => {
  const mountinfo = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
    '30 22 0:5 / /data rw,noexec - tmpfs tmpfs rw,size=1g',
    '31 22 0:6 / /data rw - xfs /dev/sdb ro',
    '32 22 0:7 / /with\\040space rw - btrfs /dev/sdc rw',
  ].join('\n');
  expect(findMount(mountinfo, '/data/x')).toMatchObject({ point: '/data', type: 'xfs' });
  expect(findMount(mountinfo, '/data/x')?.options.has('ro')).toBe(true);
  expect(findMount(mountinfo, '/database')?.point).toBe('/');
  expect(findMount(mountinfo, '/with space/a')?.type).toBe('btrfs');
  expect(findMount('', '/')).toBeNull();
});

const NO_SIGNS: ContainerSigns = {
  vastId: undefined,
  hasDockerFile: false,
  hasPodmanFile: false,
  cgroup: '0::/init.scope\n',
  containerVariable: undefined,
  isKubernetes: false,
};

test('a container is called by its name, and what starts it with the machine is told', () => {
  expect(nameContainer(NO_SIGNS)).toBeNull();
  expect(nameContainer({ ...NO_SIGNS, hasDockerFile: true })?.name).toBe('Docker container');
  expect(nameContainer({ ...NO_SIGNS, cgroup: '0::/kubepods/burstable' })?.name).toBe('Kubernetes pod');
  const vast = nameContainer({ ...NO_SIGNS, vastId: 'C.38250', hasDockerFile: true });
  expect(vast).toMatchObject({ name: 'Vast.ai container C.38250', onStart: expect.stringContaining('onstart') });
});

test('systems that Node does not run on are named', () => {
  const status = (kernel: string, glibc: string | undefined) => judgePlatform({ kernel, glibc }).status;
  expect([
    status('6.1.0', '2.36'),
    status('4.4.0-1', '2.36'),
    status('6.1.0', '2.27'),
    status('6.1.0', undefined),
  ]).toEqual(['ok', 'warn', 'warn', 'fail']);
});

test('the end of a log tells the last answer of the control plane, and errors since', () => {
  const line = (fields: object) => JSON.stringify(fields);
  const welcomed = line({ level: 30, event: 'welcomed' });
  const failure = line({ level: 50, event: 'x', msg: 'the disk is full' });
  const refused = line({ level: 30, event: 'link-ended', reason: 'unauthorized' });
  expect(lastOf([failure, welcomed].join('\n'))).toEqual({ lastWord: 'welcomed', lastError: null, startCount: 1 });
  expect(lastOf([welcomed, failure].join('\n')).lastError).toBe('the disk is full');
  expect(lastOf([welcomed, refused, 'error: unknown token'].join('\n'))).toEqual({
    lastWord: 'refused',
    lastError: 'unknown token',
    startCount: 1,
  });
  expect(lastOf('garbage\n{"half').lastWord).toBeNull();
});
