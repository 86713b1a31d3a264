import { parseNvidiaSmiLine } from '@dumont/agent/host/parse-nvidia-smi.ts';
import { gpuSampleSchema } from '@dumont/shared/protocol/heartbeat.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';

test('a line becomes a sample in bytes, percent, degrees and watts', () => {
  expect(parseNvidiaSmiLine('0, NVIDIA H100 80GB HBM3, 97, 70213, 81559, 61, 612.34')).toEqual({
    index: 0,
    name: 'NVIDIA H100 80GB HBM3',
    utilPct: 97,
    temperatureC: 61,
    powerW: 612.34,
    memoryUsedBytes: 70_213 * 1_048_576,
    memoryTotalBytes: 81_559 * 1_048_576,
  });
});

test('values the driver does not have are null', () => {
  expect(parseNvidiaSmiLine('1, Tesla K80, [N/A], 11, 11441, [Not Supported], [Unknown Error]')).toEqual({
    index: 1,
    name: 'Tesla K80',
    utilPct: null,
    temperatureC: null,
    powerW: null,
    memoryUsedBytes: 11 * 1_048_576,
    memoryTotalBytes: 11_441 * 1_048_576,
  });
});

test('a comma in the name does not shift the fields', () => {
  expect(parseNvidiaSmiLine('2, GPU, special edition, 1, 2, 3, 4, 5.5')).toMatchObject({
    name: 'GPU, special edition',
    utilPct: 1,
    temperatureC: 4,
    powerW: 5.5,
  });
});

test.each(['', 'No devices were found', 'Unable to determine the device handle for GPU', 'x, A100, 1, 2, 3, 4, 5'])(
  'a line that is not a sample gives none: %j',
  (line) => {
    expect(parseNvidiaSmiLine(line)).toBeNull();
  },
);

test('whatever the tool prints, a sample fits the protocol', () => {
  const field = fc.oneof(fc.string(), fc.integer().map(String), fc.double().map(String), fc.constant('[N/A]'));
  fc.assert(
    fc.property(fc.array(field, { minLength: 5, maxLength: 9 }), (fields) => {
      const sample = parseNvidiaSmiLine(`3, ${fields.join(', ')}`);
      if (sample !== null) expect(gpuSampleSchema.parse(sample)).toEqual(sample);
    }),
  );
});
