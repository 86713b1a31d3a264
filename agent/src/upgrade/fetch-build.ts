import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type { AgentBuild } from '@dumont/shared/model/agent-release.ts';
import { type BackoffPolicy, backoffMs } from '@dumont/shared/util/backoff.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';

/** A connection that brings nothing for this long is given up; what came is kept. */
const STALL_MS = 20_000;
/** Each attempt goes on where the one before ended, so only a path that is really down uses them all. */
const MAX_ATTEMPTS = 6;
const RETRY: BackoffPolicy = { baseMs: 500, capMs: 10_000 };

export interface FetchOptions {
  readonly url: string;
  readonly build: AgentBuild;
  /** The compressed file; a part left by an earlier attempt is continued. */
  readonly path: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly onProgress: (doneBytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Downloads a build's compressed file, resuming what is there. Its checksum is not checked here.
 * @throws {DumontError} NOT_FOUND, UNAVAILABLE after several attempts, LIMIT when it is larger than promised, IO, ABORTED
 */
export async function fetchBuild(options: FetchOptions): Promise<void> {
  const { clock, random, signal } = options;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await fetchRest(options);
    } catch (error) {
      if (signal.aborted) throw new DumontError('ABORTED', 'the download was stopped', { cause: signal.reason });
      const failure = toDumontError(error, 'UNAVAILABLE', `downloading ${options.url}`);
      if (failure.code !== 'UNAVAILABLE' || attempt === MAX_ATTEMPTS) throw failure;
    }
    await clock.sleep(backoffMs(attempt - 1, RETRY, random), signal).catch(() => {});
  }
}

async function fetchRest(options: FetchOptions): Promise<void> {
  const { url, build, path, clock, signal } = options;
  const haveBytes = await sizeOf(path);
  if (haveBytes === build.compressedBytes) return;
  if (haveBytes > build.compressedBytes) {
    await rm(path);
    return fetchRest(options);
  }
  const stalled = new AbortController();
  let cancelStall = () => {};
  const alive = () => {
    cancelStall();
    cancelStall = clock.after(STALL_MS, () => stalled.abort(new Error(`nothing came for ${STALL_MS} ms`)));
  };
  alive();
  try {
    const response = await fetch(url, {
      headers: haveBytes > 0 ? { range: `bytes=${haveBytes}-` } : {},
      redirect: 'error',
      signal: AbortSignal.any([signal, stalled.signal]),
    });
    await writeBody(response, { ...options, haveBytes, alive });
  } finally {
    cancelStall();
  }
  if ((await sizeOf(path)) !== build.compressedBytes) {
    throw new DumontError('UNAVAILABLE', `${url} ended early`, { retryable: true });
  }
}

async function writeBody(
  response: Response,
  options: FetchOptions & { readonly haveBytes: number; readonly alive: () => void },
): Promise<void> {
  const { url, build, path, haveBytes, onProgress, alive } = options;
  if (response.status === 404) {
    throw new DumontError('NOT_FOUND', `the control plane has no ${url}`, {
      hint: 'Was the release removed from its DUMONT_DOWNLOADS_DIR?',
    });
  }
  if (!response.ok || response.body === null) {
    throw new DumontError('UNAVAILABLE', `${url} answered ${response.status}`, { retryable: true });
  }
  // A server without ranges sends the whole file again.
  const isRest = response.status === 206;
  await using file = await open(path, isRest ? 'a' : 'w', 0o600);
  let doneBytes = isRest ? haveBytes : 0;
  for await (const chunk of response.body) {
    alive();
    doneBytes += chunk.length;
    if (doneBytes > build.compressedBytes) {
      throw new DumontError('LIMIT', `${url} is larger than the ${build.compressedBytes} bytes of the release`);
    }
    try {
      await file.writeFile(chunk);
    } catch (error) {
      throw toDumontError(error, 'IO', `writing ${path}`);
    }
    onProgress(doneBytes);
  }
}

/**
 * Unpacks a downloaded build into an executable file on disk, checking both of its checksums on the way. The compressed
 * file is removed when it is not what was promised, so that the next attempt does not go on with it.
 * @throws {DumontError} CORRUPT, IO, ABORTED
 */
export async function unpackBuild(from: string, to: string, build: AgentBuild, signal: AbortSignal): Promise<void> {
  const [packed, unpacked] = [createHash('sha256'), createHash('sha256')];
  try {
    await using file = await open(to, 'w', 0o755);
    let bytes = 0;
    const write = async (chunks: AsyncIterable<Buffer>) => {
      for await (const chunk of chunks) {
        bytes += chunk.length;
        if (bytes > build.bytes) throw corrupt(`it unpacks to more than ${build.bytes} bytes`);
        unpacked.update(chunk);
        await file.writeFile(chunk);
      }
    };
    await pipeline(createReadStream(from), hashing(packed), createGunzip(), write, { signal });
    if (packed.digest('hex') !== build.compressedSha256) throw corrupt('its checksum differs');
    if (bytes !== build.bytes || unpacked.digest('hex') !== build.sha256) {
      throw corrupt('the checksum of the executable inside differs');
    }
    await file.chmod(0o755);
    await file.sync();
  } catch (error) {
    if (signal.aborted) throw new DumontError('ABORTED', 'unpacking was stopped', { cause: signal.reason });
    const isBroken = isDumontError(error, 'CORRUPT') || systemErrorCode(error)?.startsWith('Z_') === true;
    if (!isBroken) throw toDumontError(error, 'IO', `unpacking ${from}`);
    await rm(from, { force: true });
    throw isDumontError(error) ? error : corrupt('it is not a gzip file');
  }
}

function hashing(hash: Hash): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
}

function corrupt(what: string): DumontError {
  return new DumontError('CORRUPT', `the downloaded agent is not the one of the release: ${what}`, {
    retryable: true,
    hint: 'Try again; if it stays, build the release anew with "npm run build:agent".',
  });
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return 0;
    throw toDumontError(error, 'IO', `looking at ${path}`);
  }
}
