import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { agentReleaseSchema } from '@dumont/shared/model/agent-release.ts';
import { buildAgent } from '../../install/build/build-agent.ts';
import { eventually } from './eventually.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Builds of tests, apart from those that are served. */
const CACHE = join(ROOT, 'node_modules/.cache/dumont-test-builds');
/** Whatever a build is made from. */
const SOURCES = ['agent/src', 'shared/src', 'install'];
/** A build takes ten seconds; on a busy machine several times that. */
const BUILD_TIMEOUT_MS = 240_000;
/** Builds of earlier sources are of no use: one of some versions is 160 MB. */
const MAX_KEPT = 3;

export interface BuiltAgent {
  /** The executable. */
  readonly path: string;
  /** The same, compressed, as it is served. */
  readonly gz: string;
  readonly version: string;
  /** What `npm run build:agent` wrote, beside the executable; its parent can be served as downloads. */
  readonly directory: string;
}

/**
 * The agent's executable for this machine, built from these sources, once for all test files and runs.
 * @param options.suffix stamps another version; builds of all suffixes lie in one folder of downloads
 */
export async function builtAgent({ suffix }: { readonly suffix?: string } = {}): Promise<BuiltAgent> {
  const out = join(CACHE, await hashOfSources());
  const marker = join(out, `${suffix ?? 'release'}.done`);
  await mkdir(out, { recursive: true });
  const lock = join(out, `${suffix ?? 'release'}.lock`);
  let version = await readText(marker);
  if (version === null && (await takeLock(lock))) {
    try {
      version = await build(out, suffix);
      await writeFile(`${marker}.tmp`, version);
      await rename(`${marker}.tmp`, marker);
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
    await dropOthers();
  }
  version ??= await eventually(`another process builds ${out}`, () => readText(marker), BUILD_TIMEOUT_MS);
  return builtAt(join(out, version));
}

async function build(out: string, versionSuffix: string | undefined): Promise<string> {
  const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
  const built = await buildAgent({ architectures: [arch], versionSuffix, out, say: () => {} });
  const { gz, path } = await builtAt(built.folder);
  await writeFile(path, await promisify(gunzip)(await readFile(gz)));
  await chmod(path, 0o755);
  return built.version;
}

async function builtAt(directory: string): Promise<BuiltAgent> {
  const text = await readFile(join(directory, 'release.json'), 'utf8');
  const { version, builds } = agentReleaseSchema.parse(JSON.parse(text));
  const gz = join(directory, builds[0]?.file ?? '');
  return { path: gz.replace(/\.gz$/, ''), gz, version, directory };
}

/** A lock left behind by a build that was killed counts for as long as a build may take. */
async function takeLock(lock: string): Promise<boolean> {
  const found = await stat(lock).catch(() => null);
  if (found !== null && Date.now() - found.mtimeMs > BUILD_TIMEOUT_MS) await rm(lock, { recursive: true, force: true });
  return mkdir(lock).then(
    () => true,
    () => false,
  );
}

async function readText(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}

async function hashOfSources(): Promise<string> {
  const hash = createHash('sha256');
  for (const file of ['package-lock.json', 'agent/package.json']) hash.update(await readFile(join(ROOT, file)));
  for (const folder of SOURCES) {
    const entries = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true });
    const paths = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
    for (const path of paths.sort()) hash.update(path.slice(ROOT.length)).update(await readFile(path));
  }
  return hash.digest('hex').slice(0, 16);
}

async function dropOthers(): Promise<void> {
  const names = await readdir(CACHE);
  const dated = await Promise.all(
    names.map(async (name) => ({ name, atMs: (await stat(join(CACHE, name)).catch(() => null))?.mtimeMs ?? 0 })),
  );
  const old = dated.sort((a, b) => b.atMs - a.atMs).slice(MAX_KEPT);
  await Promise.all(old.map(({ name }) => rm(join(CACHE, name), { recursive: true, force: true })));
}
