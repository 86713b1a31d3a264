import { expect, test } from 'vitest';
import { seededRandom } from '@dumont/shared/util/random.ts';
import type { ByteSource } from '@dumont/agent/snapshot/byte-source.ts';
import type { TensorSpan } from '@dumont/agent/snapshot/tensor/tensor-span.ts';
import { findTensors, planSegments } from '@dumont/agent/snapshot/tensor-layout.ts';
import { fuzz, mutate } from '../../../../world/fuzz.ts';
import { ggufFile, safetensorsFile, torchFile } from '../../../../world/tensor-files.ts';

const MIB = 1_048_576;
const BUDGET = 2 * MIB;
const HEADER_BYTES = 2_000;
const DIRECTORY_BYTES = 700;

const tensors = [140_000, 200, 200_000, 8].map((length, n) => ({ name: `t${n}`, bytes: Buffer.alloc(length) }));
const data = tensors.map(({ bytes }) => bytes);
const FORMATS = {
  safetensors: { file: safetensorsFile(tensors, 'note'), isAtEnd: false },
  torch: { file: torchFile(data), isAtEnd: true },
  'torch zip64': { file: torchFile(data, { zip64: true }), isAtEnd: true },
  gguf: { file: ggufFile(tensors, 20), isAtEnd: false },
};

test.each(Object.entries(FORMATS))('any %s header gives a layout inside the file or none', async (_, format) => {
  const scratch = Buffer.alloc(8 * MIB);
  const { file, isAtEnd } = format;
  const [header, rest] = isAtEnd
    ? [file.subarray(-DIRECTORY_BYTES), file.subarray(0, -DIRECTORY_BYTES)]
    : [file.subarray(0, HEADER_BYTES), file.subarray(HEADER_BYTES)];
  let found = 0;
  const { refused } = await fuzz({ inputs: 6_000, maxAllocatedBytes: BUDGET }, async (input) => {
    const changed = mutate(header, seededRandom(input));
    const source = joinedSource(isAtEnd ? [rest, changed] : [changed, rest]);
    const spans = findTensors(source, scratch);
    expectLayout(source.sizeBytes, spans);
    if (spans !== null) found += 1;
  });
  // A broken header is no error: such a file is cut like any other.
  expect(refused).toBe(0);
  expect(found).toBeGreaterThan(100);
});

function expectLayout(sizeBytes: number, spans: readonly TensorSpan[] | null): void {
  let end = 0;
  for (const { offset, length } of spans ?? []) {
    expect(offset).toBeGreaterThanOrEqual(end);
    expect(length).toBeGreaterThan(0);
    end = offset + length;
  }
  expect(end).toBeLessThanOrEqual(sizeBytes);
  let covered = 0;
  for (const { offset, length } of planSegments(sizeBytes, spans)) {
    expect(offset).toBe(covered);
    covered += length;
  }
  expect(covered).toBe(sizeBytes);
}

/** Two buffers read as one file. */
function joinedSource([first, second]: readonly [Buffer, Buffer]): ByteSource {
  return {
    sizeBytes: first.length + second.length,
    read: (into, offset) => {
      const isFirst = offset < first.length;
      const start = isFirst ? offset : offset - first.length;
      const part = (isFirst ? first : second).subarray(start, start + into.length);
      into.set(part);
      return part.length;
    },
  };
}
