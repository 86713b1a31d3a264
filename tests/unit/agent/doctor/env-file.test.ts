import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseEnvFile, readEnvFile } from '@dumont/agent/doctor/env-file.ts';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

/** As the installer writes a value. */
const quoted = (value: string) => `'${value.replaceAll("'", String.raw`'\''`)}'`;

test('every value that was quoted for a shell is read as it was', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }).filter((text) => !/[\n\r\0]/.test(text)),
      (value) => {
        expect(parseEnvFile(`A='x'\nNAME=${quoted(value)}\nB='y'\n`)).toEqual({ A: 'x', NAME: value, B: 'y' });
      },
    ),
  );
});

test('a file is read as the shell reads it, comments and all', async () => {
  await using folder = await makeTempFolder();
  const path = join(folder.path, 'agent.env');
  await writeFile(path, `# ours\nexport A='it'\\''s'\nB="a \\"b\\""\nC=plain\n\nD=\n`);
  const shell = execFileSync('/bin/sh', ['-c', `. "${path}"; printf '%s\\n' "$A" "$B" "$C" "$D"`], {
    encoding: 'utf8',
  });
  const read = await readEnvFile(path);
  const { A, B, C, D } = read.kind === 'read' ? read.variables : {};
  expect([A, B, C, D, ''].join('\n')).toBe(shell);
  expect(await readEnvFile(join(folder.path, 'none'))).toEqual({ kind: 'absent' });
});
