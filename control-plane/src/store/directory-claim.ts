import { once } from 'node:events';
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { Server } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';

/**
 * Makes this process the only user of a data directory until it disposes the claim or ends, however it ends. The claim
 * is a socket name that the kernel gives to one process at a time, so there is nothing stale to judge; the file
 * `owner.pid` only tells people who it is.
 * @throws {DumontError} CONFLICT while another owner lives
 */
export async function claimDirectory(directory: string): Promise<AsyncDisposable> {
  const ownerPath = join(directory, 'owner.pid');
  const server = createServer((socket) => socket.destroy());
  try {
    server.listen(await claimName(directory));
    await once(server, 'listening');
  } catch (error) {
    if (systemErrorCode(error) !== 'EADDRINUSE') throw error;
    const owner = await readFile(ownerPath, 'utf8').catch(() => '');
    const whom = owner === '' ? 'another process' : `process ${owner}`;
    throw new DumontError('CONFLICT', `the data directory ${directory} is in use by ${whom}`, {
      field: 'DUMONT_DATA_DIR',
      hint: 'Stop the other control plane, or give this one another directory.',
      cause: error,
    });
  }
  // Holding the claim is no reason for the process to live on.
  server.unref();
  await writeFile(ownerPath, String(process.pid), { mode: 0o600 });
  return {
    [Symbol.asyncDispose]: async () => {
      await rm(ownerPath, { force: true });
      await close(server);
    },
  };
}

/**
 * One name for a directory, whatever path leads to it. On Linux it lives in the abstract socket namespace and vanishes
 * with its process; elsewhere it is a file, which a killed process leaves behind and an operator removes.
 */
async function claimName(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory);
  const name = `dumont-data-${dev}-${ino}`;
  return process.platform === 'linux' ? `\0${name}` : join(tmpdir(), name);
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  await closed;
}
