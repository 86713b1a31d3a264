import { mkdir, readdir, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { judgeFile } from '@dumont/agent/workload/checkpoints/judge-file.ts';
import { settleCheckpoints } from '@dumont/agent/workload/checkpoints/settle-checkpoints.ts';
import { MAX_HEADER_PART_BYTES } from '@dumont/agent/snapshot/tensor/header-reader.ts';
import { checkpointReportSchema } from '@dumont/shared/model/checkpoints.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ggufFile, safetensorsFile, torchFile } from '../../../../world/tensor-files.ts';
import { makeTempFolder } from '../../../../world/temp-folder.ts';

const TENSORS = [
  { name: 'a', bytes: Buffer.alloc(4_096, 1) },
  { name: 'b', bytes: Buffer.alloc(8_192, 2) },
];
const FORMATS = {
  'model.safetensors': safetensorsFile(TENSORS),
  'model.pt': torchFile(TENSORS.map(({ bytes }) => bytes)),
  'large.ckpt': torchFile(
    TENSORS.map(({ bytes }) => bytes),
    { zip64: true },
  ),
  'model.gguf': ggufFile(TENSORS, 10),
} as const;

const scratch = Buffer.alloc(MAX_HEADER_PART_BYTES);

/** Files with times one second apart, in the order given. */
async function treeOf(files: Readonly<Record<string, Buffer | string>>) {
  const folder = await makeTempFolder();
  let seconds = 1_700_000_000;
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder.path, path)), { recursive: true });
    await writeFile(join(folder.path, path), content);
    seconds += 1;
    await utimes(join(folder.path, path), seconds, seconds);
  }
  return folder;
}

const half = (bytes: Buffer) => bytes.subarray(0, bytes.length / 2);
const settle = (root: string, policy?: { readonly pattern?: string; readonly onIncomplete: 'set-aside' | 'keep' }) =>
  settleCheckpoints(root, { policy, mayRename: true });

test.each(Object.entries(FORMATS))('%s is whole as written, and at no length short of that', async (name, bytes) => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, name);
  await writeFile(path, bytes);
  expect(judgeFile(path, scratch)).toEqual({ kind: 'whole' });
  // The padding behind the last tensor of a GGUF is not needed.
  const needed = name.endsWith('.gguf') ? bytes.length - 64 : bytes.length - 1;
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: needed }), async (length) => {
      await writeFile(path, bytes);
      await truncate(path, length);
      const { kind } = judgeFile(path, scratch);
      // Too short to have the mark of its format, it may be anything; a safetensors file is known by its name.
      expect(length > 0 && length < 16 && !name.endsWith('.safetensors') ? 'incomplete' : kind).toBe('incomplete');
    }),
    { numRuns: 60 },
  );
});

test('the newest whole one is the latest, and newer half-written ones are set aside, not deleted', async () => {
  await using folder = await treeOf({
    'out/step1.pt': FORMATS['model.pt'],
    'out/step2.safetensors': FORMATS['model.safetensors'],
    'out/step3.pt': half(FORMATS['model.pt']),
    'out/step4.gguf': half(FORMATS['model.gguf']),
    'out/notes.txt': 'not a checkpoint',
  });
  const report = await settle(folder.path);
  expect(checkpointReportSchema.parse(report)).toEqual(report);
  expect(report).toMatchObject({ latest: 'out/step2.safetensors', completeCount: 2, incompleteCount: 2 });
  expect(report.incomplete).toMatchObject([
    { path: 'out/step4.gguf', setAsideAs: 'out/step4.gguf.incomplete' },
    { path: 'out/step3.pt', setAsideAs: 'out/step3.pt.incomplete' },
  ]);
  expect((await readdir(join(folder.path, 'out'))).sort()).toEqual([
    'notes.txt',
    'step1.pt',
    'step2.safetensors',
    'step3.pt.incomplete',
    'step4.gguf.incomplete',
  ]);
});

test('settling twice changes nothing more, and a second one of the same name gets a name of its own', async () => {
  await using folder = await treeOf({ 'last.ckpt': half(FORMATS['large.ckpt']) });
  expect((await settle(folder.path)).incomplete[0]?.setAsideAs).toBe('last.ckpt.incomplete');
  expect((await settle(folder.path)).incomplete).toMatchObject([{ path: 'last.ckpt.incomplete', setAsideAs: null }]);
  await writeFile(join(folder.path, 'last.ckpt'), '');
  expect((await settle(folder.path)).incomplete).toContainEqual({
    path: 'last.ckpt',
    reason: 'it is empty',
    setAsideAs: 'last.ckpt.incomplete-2',
  });
});

test('files that are named as unfinished are reported, and left for whoever goes on with them', async () => {
  await using folder = await treeOf({
    'model.safetensors.part': half(FORMATS['model.safetensors']),
    'model.pt.tmp': FORMATS['model.pt'],
    'list.txt.tmp': 'not a checkpoint',
  });
  const report = await settle(folder.path);
  expect(report).toMatchObject({ latest: null, completeCount: 0, incompleteCount: 2 });
  expect(report.incomplete.map(({ setAsideAs }) => setAsideAs)).toEqual([null, null]);
  expect((await readdir(folder.path)).sort()).toEqual(['list.txt.tmp', 'model.pt.tmp', 'model.safetensors.part']);
});

test('a folder of one checkpoint is whole or not as a whole', async () => {
  const index = JSON.stringify({ weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } });
  const whole = FORMATS['model.safetensors'];
  await using folder = await treeOf({
    'run/checkpoint-500/model.safetensors': whole,
    'run/checkpoint-500/optimizer.pt': FORMATS['model.pt'],
    'run/checkpoint-500/trainer_state.json': '{}',
    'run/checkpoint-1000/model.safetensors': whole,
    'run/checkpoint-1000/optimizer.pt': half(FORMATS['model.pt']),
    'run/checkpoint-1500/model.safetensors': whole,
    'sharded/step_7/model.safetensors.index.json': index,
    'sharded/step_7/model-1.safetensors': whole,
    'tmp-checkpoint-9/model.safetensors': whole,
  });
  const report = await settle(folder.path);
  expect(report).toMatchObject({ latest: 'run/checkpoint-500', completeCount: 1, incompleteCount: 4 });
  expect(report.incomplete).toMatchObject([
    { path: 'tmp-checkpoint-9', setAsideAs: null },
    { path: 'sharded/step_7', reason: 'model-2.safetensors is missing, which model.safetensors.index.json names' },
    { path: 'run/checkpoint-1500', reason: 'it lacks trainer_state.json, which run/checkpoint-500 has' },
    { path: 'run/checkpoint-1000', reason: expect.stringMatching(/^optimizer\.pt: it does not end/) as string },
  ]);
  expect(await readdir(join(folder.path, 'run/checkpoint-1000.incomplete'))).toContain('optimizer.pt');
});

test('the policy says which files are checkpoints, and whether they are touched', async () => {
  await using folder = await treeOf({
    'weights/a.dat': FORMATS['model.pt'],
    'weights/b.dat': half(FORMATS['model.pt']),
    'data/c.pt': half(FORMATS['model.pt']),
  });
  const kept = await settle(folder.path, { pattern: 'weights/', onIncomplete: 'keep' });
  expect(kept).toMatchObject({
    latest: 'weights/a.dat',
    incomplete: [{ path: 'weights/b.dat', setAsideAs: null }],
  });
  expect((await settle(folder.path, { pattern: 'weights/', onIncomplete: 'set-aside' })).incomplete).toMatchObject([
    { path: 'weights/b.dat', setAsideAs: 'weights/b.dat.incomplete' },
  ]);
  expect(await readdir(join(folder.path, 'data'))).toEqual(['c.pt']);
});

test('links, ignored paths and packages are left alone, and a format that does not tell counts as whole', async () => {
  await using folder = await treeOf({
    'legacy.pth': Buffer.from([0x80, 2, 0x7d]),
    'firmware.bin': 'not a model at all, by its content',
    'scratch/x.pt': '',
    'node_modules/pkg/test.pt': '',
    '.dumontignore': 'scratch/\n',
  });
  await symlink('nowhere', join(folder.path, 'link.safetensors'));
  expect(await settle(folder.path)).toEqual({
    latest: 'legacy.pth',
    completeCount: 1,
    incompleteCount: 0,
    incomplete: [],
  });
});

test('looking only changes nothing, and no content makes it fail', async () => {
  await using folder = await makeTempFolder();
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('x.safetensors', 'x.pt', 'x.gguf', 'x.bin'),
      fc.constantFrom<Buffer>(Buffer.alloc(0), ...Object.values(FORMATS)),
      fc.uint8Array({ maxLength: 200 }),
      fc.nat(400),
      async (name, base, noise, at) => {
        const bytes = Buffer.from(base);
        Buffer.from(noise).copy(bytes, Math.min(at, bytes.length));
        await writeFile(join(folder.path, name), bytes.length === 0 ? noise : bytes);
        const before = await readdir(folder.path);
        await settleCheckpoints(folder.path, { mayRename: false });
        expect(await readdir(folder.path)).toEqual(before);
      },
    ),
    { numRuns: 100 },
  );
});
