import { type FileHandle, open, writeFile } from 'node:fs/promises';
import { toDumontError } from '@dumont/shared/util/errors.ts';

/** Enough for the end of a training run; one older file of the same size is kept beside it. */
const WORKLOAD_LOG_LIMIT_BYTES = 10_485_760;

const TAIL_BYTES = 2_048;

/**
 * Opens a log for a child process to write to. Append mode: every write goes to the end, also after a rotation.
 * @throws {DumontError} IO
 */
export async function openLog(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'a', 0o600);
  } catch (error) {
    throw toDumontError(error, 'IO', `opening ${path}`);
  }
}

/**
 * When the log has grown past the limit, its newest `limitBytes` replace `<path>.1` and the log starts afresh. The
 * child writes into the file itself, so that it neither depends on the agent nor costs it anything; lines written
 * between the copy and the cut are lost.
 * @returns true when it rotated
 */
export async function rotateLog(path: string, limitBytes = WORKLOAD_LOG_LIMIT_BYTES): Promise<boolean> {
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  if (size <= limitBytes) return false;
  await writeFile(`${path}.1`, await readTail(file, limitBytes), { mode: 0o600 });
  await file.truncate(0);
  return true;
}

/** The last lines of a log, for an error message; empty when there is none. */
export async function tailOfLog(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    return (await readTail(file, TAIL_BYTES)).toString('utf8').trim();
  } catch {
    return '';
  }
}

async function readTail(file: FileHandle, lengthBytes: number): Promise<Buffer> {
  const { size } = await file.stat();
  const length = Math.min(size, lengthBytes);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
  return buffer.subarray(0, bytesRead);
}
