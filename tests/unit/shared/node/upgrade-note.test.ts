import { formatUpgradeNote, parseUpgradeNote } from '@dumont/shared/node/upgrade-note.ts';
import { expect, test } from 'vitest';

test('a note is lines that a shell can read, and comes back as it was', () => {
  const note = { from: '1.0.0', to: '1.1.0', reason: 'it ended with exit code 9 twice' };
  expect(formatUpgradeNote(note)).toBe('from=1.0.0\nto=1.1.0\nreason=it ended with exit code 9 twice\n');
  expect(parseUpgradeNote(formatUpgradeNote(note))).toEqual(note);
});

test('a reason cannot add lines, and other lines are passed over', () => {
  const text = formatUpgradeNote({ from: '1.0.0', to: '1.1.0', reason: 'a\nto=6.6.6' });
  expect(parseUpgradeNote(text)).toEqual({ from: '1.0.0', to: '1.1.0', reason: 'a to=6.6.6' });
  expect(parseUpgradeNote('# hi\nto=2\nfrom=1\ncolour=blue\n')).toEqual({ from: '1', to: '2' });
});

test.each(['', 'from=1\n', 'garbage'])('a note without both versions is corrupt: %j', (text) => {
  expect(() => parseUpgradeNote(text)).toThrow(expect.objectContaining({ code: 'CORRUPT' }) as Error);
});
