import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { toDumontError } from '@dumont/shared/util/errors.ts';

/**
 * Replaces a small file, readable by its user alone, so that a crash leaves the old or the new text, never a part; the
 * new one for certain once it resolves. One writer per path.
 * @throws {DumontError} IO
 */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await using file = await open(temporary, 'w', 0o600);
    await file.writeFile(text);
    await file.sync();
    await rename(temporary, path);
    // The rename itself lasts only once its folder is on disk.
    await using folder = await open(dirname(path), 'r');
    await folder.sync();
  } catch (error) {
    throw toDumontError(error, 'IO', `writing ${path}`);
  }
}
