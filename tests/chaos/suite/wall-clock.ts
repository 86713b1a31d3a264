import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** In a machine's folder, beside its disk: how far its wall clock is off, ms. */
export const OFFSET_FILE = 'wall-clock-offset';

/** To be loaded by processes whose wall clock is to be stepped. */
export const STEPPED_CLOCK = join(import.meta.dirname, 'stepped-clock-process.ts');

/** Steps the wall clock of all processes that look there. */
export async function stepWallClock(path: string, offsetMs: number): Promise<void> {
  await writeFile(`${path}.new`, String(offsetMs));
  await rename(`${path}.new`, path);
}
