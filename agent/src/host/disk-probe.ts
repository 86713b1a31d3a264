import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { probeContent } from '@dumont/shared/node/probe-content.ts';
import type { ProbeFile } from '@dumont/shared/protocol/trial.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { TEMP_FILE_PREFIX } from '../workspace/ignore.ts';

/** Read at a time. */
const BLOCK_BYTES = 1_024 * 1_024;

interface DiskProbeOptions {
  /** On the disk to be tried. The file's name is one that snapshots leave out. */
  readonly folder: string;
  readonly nonce: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Writes the nonce's file anew, down to the disk. @throws {DumontError} IO */
export async function writeProbe(options: DiskProbeOptions & { readonly sizeBytes: number }): Promise<ProbeFile> {
  const { clock, signal, folder, nonce, sizeBytes } = options;
  const startMs = clock.monotonicMs();
  const hash = createHash('sha256');
  try {
    await mkdir(folder, { recursive: true });
    await using file = await open(pathOf(options), 'w', 0o600);
    for (const block of probeContent(nonce, sizeBytes)) {
      signal.throwIfAborted();
      hash.update(block);
      await file.writeFile(block);
    }
    await file.sync();
  } catch (error) {
    signal.throwIfAborted();
    throw toDumontError(error, 'IO', `writing ${sizeBytes} bytes to ${folder}`);
  }
  return { sha256: hash.digest('hex'), bytes: sizeBytes, tookMs: clock.monotonicMs() - startMs };
}

/** Reads the nonce's file. @throws {DumontError} NOT_FOUND when it is not there, IO */
export async function readProbe(options: DiskProbeOptions): Promise<ProbeFile> {
  const { clock, signal } = options;
  const startMs = clock.monotonicMs();
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    await using file = await open(pathOf(options), constants.O_RDONLY | constants.O_NOFOLLOW);
    const buffer = Buffer.allocUnsafe(BLOCK_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, BLOCK_BYTES, bytes);
      if (bytesRead === 0) break;
      hash.update(buffer.subarray(0, bytesRead));
      bytes += bytesRead;
    }
  } catch (error) {
    signal.throwIfAborted();
    if (systemErrorCode(error) === 'ENOENT') throw new DumontError('NOT_FOUND', 'the probe file is not there');
    throw toDumontError(error, 'IO', 'reading the probe file back');
  }
  return { sha256: hash.digest('hex'), bytes, tookMs: clock.monotonicMs() - startMs };
}

function pathOf({ folder, nonce }: DiskProbeOptions): string {
  return join(folder, `${TEMP_FILE_PREFIX}probe-${nonce}`);
}
