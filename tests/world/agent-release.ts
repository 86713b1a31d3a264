import { createHash } from 'node:crypto';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { AgentArchitecture, AgentRelease } from '@dumont/shared/model/agent-release.ts';

const AGENT_MAIN = join(import.meta.dirname, '../../agent/src/main.ts');
const STAMP_MODULE = join(import.meta.dirname, 'stamp-version.ts');
export const THIS_ARCH = process.arch as AgentArchitecture;

/**
 * An executable of a version for tests: a small script that answers what the installer's side asks of one, and runs
 * the agent of this tree, stamped with the version.
 * @param broken a shell command that takes the place of `run`
 */
export function agentScript(version: string, broken?: string): Buffer {
  const run = `exec ${process.execPath} --import ${STAMP_MODULE} ${AGENT_MAIN} "$@"`;
  return Buffer.from(`#!/bin/sh
case "$1" in
  --version) echo "dumont-agent ${version}" ;;
  host-files) echo supervisor > "$2/dumont-supervisor"; echo install > "$2/install.sh" ;;
  *) export STAMPED_VERSION=${version}; ${broken ?? run} ;;
esac
`);
}

/** A release of one build, with the bytes of its compressed file. */
export function releaseOf(
  version: string,
  executable: Buffer,
): { readonly release: AgentRelease; readonly gz: Buffer } {
  const gz = gzipSync(executable);
  return {
    gz,
    release: {
      version,
      builds: [
        {
          arch: THIS_ARCH,
          file: `dumont-agent-${version}-linux-${THIS_ARCH}.gz`,
          compressedBytes: gz.length,
          compressedSha256: sha256(gz),
          bytes: executable.length,
          sha256: sha256(executable),
        },
      ],
    },
  };
}

/** Installs a version by hand, as the first installation does, and makes it the current one. */
export async function installVersion(
  prefix: string,
  version: string,
  executable = agentScript(version),
): Promise<void> {
  const folder = join(prefix, 'versions', version);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'dumont-agent'), executable, { mode: 0o755 });
  await symlink(join('versions', version), join(prefix, 'current'));
}

/** A web server that answers every path with these bytes, with ranges, and remembers what was asked. */
export async function serveBytes(
  bytes: Buffer,
  answer?: (request: IncomingMessage, response: ServerResponse) => boolean,
): Promise<AsyncDisposable & { readonly url: string; readonly ranges: (string | undefined)[] }> {
  const ranges: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const { range } = request.headers;
    ranges.push(range);
    if (answer?.(request, response) === true) return;
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    response.writeHead(range === undefined ? 200 : 206).end(bytes.subarray(from));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    ranges,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
