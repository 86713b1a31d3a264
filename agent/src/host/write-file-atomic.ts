import { open, rename } from 'node:fs/promises';
import { toDumontError } from '@dumont/shared/util/errors.ts';

/**
 * Replaces a small file so that a crash leaves the old or the new text, never a part. One writer per path.
 * @throws {DumontError} IO
 */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await using file = await open(temporary, 'w', 0o600);
    await file.writeFile(text);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    throw toDumontError(error, 'IO', `writing ${path}`);
  }
}
