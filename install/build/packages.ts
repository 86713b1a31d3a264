import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DumontError, systemErrorCode } from '../../shared/src/util/errors.ts';
import { runTool } from './run-tool.ts';

/** The folder of the checkout. */
export const REPOSITORY = resolve(import.meta.dirname, '../..');

/** Packages for other machines than this one; npm installs only what fits this one. */
const FETCHED = join(REPOSITORY, 'node_modules/.cache/dumont-agent-build');

/** The largest file of a package is Node itself, 130 MB. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;

interface Pin {
  readonly version: string;
  readonly integrity: string;
}

/**
 * Packages that the lockfile names without a checksum, because the registry did not have that version for every machine
 * when it was written. The nearest version that exists: the functions the agent calls are the same, and what they compute
 * is fixed by BLAKE3.
 */
const SUBSTITUTES: Readonly<Record<string, Pin>> = {
  '@napi-rs/blake-hash-linux-arm64-gnu': {
    version: '1.3.4',
    integrity: 'sha512-7HV+HPtByIleTPyh3idXtzlot9BWzJDrfbzsLgv6TYvfmQS6cXNgXNJkgNRtUt4HrSmQw1e361u2HmXp4ToPIA==',
  },
};

/** What npm writes, as far as it is read here. */
interface Lockfile {
  readonly packages: Readonly<Record<string, Partial<Pin>>>;
}

/**
 * One file of a package as the lockfile pins it: the installed one where npm installed it, else from the registry,
 * checked against the lockfile and kept for the next build.
 * @param file path within the package
 * @throws {DumontError} UNAVAILABLE when the registry does not give it, CORRUPT when it is not what is pinned
 */
export async function packageFile(name: string, file: string): Promise<Buffer> {
  const pin = await pinOf(name);
  const installed = join(REPOSITORY, 'node_modules', name);
  if ((await installedVersion(installed)) === pin.version) return readFile(join(installed, file));
  const archive = await fetchArchive(name, pin);
  const { stdout } = await runTool('tar', ['-xzOf', archive, `package/${file}`], { maxBytes: MAX_FILE_BYTES });
  return stdout;
}

async function pinOf(name: string): Promise<Pin> {
  const lock = JSON.parse(await readFile(join(REPOSITORY, 'package-lock.json'), 'utf8')) as Lockfile;
  const { version, integrity } = lock.packages[`node_modules/${name}`] ?? {};
  if (version !== undefined && integrity !== undefined) return { version, integrity };
  const substitute = SUBSTITUTES[name];
  if (substitute !== undefined) return substitute;
  throw new DumontError('NOT_FOUND', `package-lock.json does not pin ${name} with a checksum`, {
    hint: 'Bring the lockfile up to date by npm install.',
  });
}

async function installedVersion(folder: string): Promise<string | undefined> {
  try {
    const text = await readFile(join(folder, 'package.json'), 'utf8');
    return (JSON.parse(text) as { readonly version?: string }).version;
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** @returns path of the archive, its content checked */
async function fetchArchive(name: string, { version, integrity }: Pin): Promise<string> {
  const path = join(FETCHED, `${name.replace(/^@/, '').replace('/', '-')}-${version}.tgz`);
  const kept = await readFile(path).catch(() => null);
  if (kept !== null && integrityOf(kept) === integrity) return path;
  await mkdir(FETCHED, { recursive: true });
  const folder = await mkdtemp(join(FETCHED, 'fetch-'));
  try {
    await runTool('npm', ['pack', '--silent', '--pack-destination', folder, `${name}@${version}`], {});
    const archive = join(folder, path.slice(FETCHED.length + 1));
    const found = integrityOf(await readFile(archive));
    if (found !== integrity) {
      throw new DumontError('CORRUPT', `${name}@${version} from the registry has the checksum ${found}`, {
        hint: `The one pinned is ${integrity}; do not use what this registry gives.`,
      });
    }
    await rename(archive, path);
    return path;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** As lockfiles have it. */
function integrityOf(bytes: Buffer): string {
  return `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
}
