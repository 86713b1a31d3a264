import fc from 'fast-check';
import { newId } from '@dumont/shared/model/ids.ts';
import { decodeFrame, encodeFrame } from '@dumont/shared/protocol/frame.ts';
import type { Downstream, Upstream } from '@dumont/shared/protocol/messages.ts';
import { downstreamSchema, upstreamSchema } from '@dumont/shared/protocol/messages.ts';
import { MAX_MESSAGE_BYTES } from '@dumont/shared/protocol/version.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { expect, test } from 'vitest';
import { someSnapshot } from '../../../world/rows.ts';

const snapshot = someSnapshot();
const { snapshotId, manifestKey, manifestHash } = snapshot;
const head = { snapshotId, manifestKey, manifestHash };
const commandId = newId('command');
const assignment = {
  workspaceId: newId('workspace'),
  epoch: 3,
  standing: 'primary',
  policy: { heartbeatIntervalMs: 200, snapshotIntervalMs: 30_000 },
  storage: { kind: 'file', path: '/objects', prefix: '' },
  head,
  workload: { command: 'train', restart: true },
} as const;
const s3 = {
  kind: 's3',
  endpoint: 'https://s3.example.com',
  region: 'auto',
  bucket: 'b',
  prefix: 'p/',
  accessKeyId: 'id',
  secretAccessKey: 'key',
  forcePathStyle: true,
} as const;
const counts = { doneBytes: 1, totalBytes: 2, doneFiles: 3, totalFiles: 4 };

const hello: Upstream = {
  kind: 'hello',
  protocolVersion: 2,
  agentVersion: '0.1.0',
  instanceId: newId('instance'),
  role: 'gpu',
  credential: 'x'.repeat(43),
  bootId: 'boot-0001',
  lastEpoch: 0,
  hostname: 'h',
  cpuCount: 1,
  memoryBytes: 0,
};
const credentials: Upstream[] = [
  { kind: 'credential-propose', credential: 'n'.repeat(43) },
  { kind: 'notice', notice: { type: 'soft-error', source: 'pre-stop', message: 'exit code 1' } },
  { kind: 'credential-confirm', credential: 'n'.repeat(43) },
];
const heartbeat: Upstream = {
  kind: 'heartbeat',
  seq: 1,
  epoch: 3,
  monotonicMs: 1.5,
  mainLagMs: 0,
  gpuUtilPct: null,
  unsavedMs: 0,
  workload: 'running',
};
const host = {
  cpuPct: 1,
  memoryUsedBytes: 1,
  memoryTotalBytes: 2,
  diskUsedBytes: null,
  diskTotalBytes: null,
  networkRxBytesPerSecond: null,
  networkTxBytesPerSecond: null,
};
const upstream: readonly Upstream[] = [
  hello,
  ...credentials,
  heartbeat,
  { kind: 'sample', gpus: [], host },
  { kind: 'command-ack', commandId },
  { kind: 'command-progress', commandId, ...counts },
  { kind: 'command-result', commandId, outcome: { ok: true, result: { name: 'snapshot', record: snapshot } } },
  { kind: 'command-result', commandId, outcome: { ok: true, result: { name: 'snapshot', record: null } } },
  {
    kind: 'command-result',
    commandId,
    outcome: { ok: true, result: { name: 'start-workload', state: 'running', pid: 7 } },
  },
  { kind: 'command-result', commandId, outcome: { ok: true, result: { name: 'stop-workload', state: 'stopped' } } },
  {
    kind: 'command-result',
    commandId,
    outcome: { ok: false, code: 'WORKLOAD', message: 'exit code 1', retryable: false },
  },
  { kind: 'snapshot-commit', requestId: 'r', epoch: 3, snapshot },
];
const downstream: readonly Downstream[] = [
  { kind: 'credential-accepted' },
  { kind: 'welcome', sessionId: 's', nowMs: 1, assignment },
  { kind: 'assign', assignment: { ...assignment, storage: s3, head: null, workload: null } },
  { kind: 'refused', code: 'UNAUTHORIZED', message: 'no', hint: 'yes', field: 'token' },
  { kind: 'heartbeat-ack', seq: 1, epoch: 3 },
  { kind: 'command', commandId, action: { name: 'snapshot' } },
  { kind: 'command', commandId, action: { name: 'restore', snapshot: head } },
  { kind: 'command', commandId, action: { name: 'start-workload', stableMs: 500 } },
  { kind: 'command', commandId, action: { name: 'stop-workload', graceMs: 5_000 } },
  { kind: 'snapshot-verdict', requestId: 'r', verdict: { kind: 'committed', seq: 1 } },
  { kind: 'snapshot-verdict', requestId: 'r', verdict: { kind: 'stale-epoch', epoch: 4 } },
  { kind: 'snapshot-verdict', requestId: 'r', verdict: { kind: 'stale-parent', head: null } },
];

function failureOf(work: () => unknown) {
  try {
    work();
  } catch (error) {
    if (isDumontError(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

test('every message arrives as it was sent', () => {
  for (const message of upstream) expect(decodeFrame(upstreamSchema, encodeFrame(message))).toEqual(message);
  for (const message of downstream) expect(decodeFrame(downstreamSchema, encodeFrame(message))).toEqual(message);
});

test('every kind of message is in these examples', () => {
  const kinds = (schema: typeof upstreamSchema | typeof downstreamSchema) =>
    schema.options.map((option) => option.shape.kind.value).toSorted();
  const kindsOf = (messages: readonly { readonly kind: string }[]) =>
    [...new Set(messages.map(({ kind }) => kind))].toSorted();
  expect(kindsOf(upstream)).toEqual(kinds(upstreamSchema));
  expect(kindsOf(downstream)).toEqual(kinds(downstreamSchema));
});

test('fields of a newer version are dropped, kinds of a newer version refused', () => {
  const newer = JSON.stringify({ ...heartbeat, moodRing: 'blue' });
  expect(decodeFrame(upstreamSchema, newer)).toEqual(heartbeat);
  expect(failureOf(() => decodeFrame(upstreamSchema, '{"kind":"telepathy"}'))).toMatchObject({
    code: 'PROTOCOL',
    field: 'kind',
  });
  // Each direction has its own messages.
  expect(failureOf(() => decodeFrame(downstreamSchema, JSON.stringify(heartbeat)))).toMatchObject({ code: 'PROTOCOL' });
});

test.each([
  ['seq', { seq: -1 }],
  ['seq', { seq: 1.5 }],
  ['epoch', { epoch: Number.MAX_SAFE_INTEGER + 1 }],
  ['mainLagMs', { mainLagMs: -1 }],
  ['gpuUtilPct', { gpuUtilPct: 101 }],
  ['workload', { workload: 'asleep' }],
] as const)('a heartbeat out of bounds is refused by naming %s', (field, change) => {
  const text = JSON.stringify({ ...heartbeat, ...change });
  const failure = failureOf(() => decodeFrame(upstreamSchema, text));
  expect(failure).toMatchObject({ code: 'PROTOCOL', field });
  expect(failure.message).toContain(field);
});

test.each([
  ['instanceId', { instanceId: newId('workspace') }],
  ['instanceId', { instanceId: 'in_../../etc/passwd00000' }],
  ['credential', { credential: 'short' }],
  ['credential', { credential: `${'x'.repeat(42)}=` }],
  ['protocolVersion', { protocolVersion: 0 }],
  ['role', { role: 'king' }],
] as const)('a hello with a bad %s is refused', (field, change) => {
  expect(failureOf(() => decodeFrame(upstreamSchema, JSON.stringify({ ...hello, ...change })))).toMatchObject({
    code: 'PROTOCOL',
    field,
  });
});

test('a message above the limit is neither read nor sent', () => {
  const long = 'x'.repeat(MAX_MESSAGE_BYTES);
  expect(failureOf(() => decodeFrame(upstreamSchema, JSON.stringify(long)))).toMatchObject({ code: 'LIMIT' });
  const fat = { kind: 'refused', code: 'INTERNAL', message: long } as const;
  expect(failureOf(() => encodeFrame(fat))).toMatchObject({ code: 'LIMIT' });
});

test('whatever arrives becomes a message of the schema or a DumontError', () => {
  const near = fc
    .tuple(fc.constantFrom(...upstream), fc.string(), fc.jsonValue())
    .map(([message, key, value]) => JSON.stringify({ ...message, [key]: value }));
  const broken = fc.tuple(fc.constantFrom(...upstream), fc.nat(400)).map(([message, length]) => {
    return JSON.stringify(message).slice(0, length);
  });
  const swapped = fc.tuple(fc.constantFrom(...upstream), fc.nat(12), fc.jsonValue()).map(([message, index, value]) => {
    const keys = Object.keys(message);
    return JSON.stringify({ ...message, [keys[index % keys.length] ?? 'kind']: value });
  });
  fc.assert(
    fc.property(fc.oneof(near, broken, swapped, fc.string(), fc.json()), (text) => {
      let message: Upstream;
      try {
        message = decodeFrame(upstreamSchema, text);
      } catch (error) {
        expect(isDumontError(error)).toBe(true);
        return;
      }
      expect(decodeFrame(upstreamSchema, encodeFrame(message))).toEqual(message);
    }),
    { numRuns: 2_000 },
  );
});
