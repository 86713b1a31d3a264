import { readFile, rm } from 'node:fs/promises';
import { z } from 'zod';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { writeFileAtomic } from '../host/write-file-atomic.ts';

const runRecordSchema = z.object({
  /** The leader of the workload's process group; 0 while it is being started. */
  pid: z.int().min(0),
  startTicks: z.number(),
  /** Value of DUMONT_WORKLOAD_RUN in the environment of every process of this run. */
  runId: z.string().min(8).max(64),
});
/** Identifies the processes of one run of the workload, also to an agent that did not start them. */
export type RunRecord = z.infer<typeof runRecordSchema>;

/** Null when there is none or it cannot be understood: then there is nothing we may kill. */
export async function readRunRecord(path: string): Promise<RunRecord | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw toDumontError(error, 'IO', `reading ${path}`);
  }
  try {
    return runRecordSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

export async function writeRunRecord(path: string, record: RunRecord): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(record)}\n`);
}

/** Removes the record if it is still the one of this run. */
export async function removeRunRecord(path: string, runId: string): Promise<void> {
  const current = await readRunRecord(path);
  if (current?.runId === runId) await rm(path, { force: true });
}
