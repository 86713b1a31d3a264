import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';

/** The repository. */
export const ROOT = resolve(import.meta.dirname, '../..');

/** Where the files of our packages are, as their package.json says. */
const PACKAGES = [
  ['@dumont/control-plane/cli/', 'control-plane/cli/'],
  ['@dumont/control-plane/', 'control-plane/src/'],
  ['@dumont/shared/', 'shared/src/'],
  ['@dumont/agent/', 'agent/src/'],
] as const;

interface Import {
  /** From the repository's root. */
  readonly target: string;
  readonly isTypeOnly: boolean;
}

export interface Source {
  /** From the repository's root. */
  readonly path: string;
  readonly text: string;
  readonly lineCount: number;
  /** Files of ours. */
  readonly imports: readonly Import[];
}

/** Every TypeScript file below these folders. */
export async function sourcesIn(...folders: readonly string[]): Promise<readonly Source[]> {
  const found = await Promise.all(
    folders.map(async (folder) => {
      const entries = await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => entry.isFile() && /\.m?ts$/.test(entry.name))
        .map(({ parentPath, name }) => join(parentPath, name));
    }),
  );
  const paths = found.flat().filter((path) => !path.includes('node_modules'));
  return Promise.all(paths.toSorted().map(readSource));
}

export async function textOf(path: string): Promise<string> {
  return readFile(join(ROOT, path), 'utf8');
}

async function readSource(absolute: string): Promise<Source> {
  const text = await readFile(absolute, 'utf8');
  const path = relative(ROOT, absolute);
  return { path, text, lineCount: text.trimEnd().split('\n').length, imports: importsOf(path, text) };
}

/** `import … from`, `export … from`, bare and dynamic imports; the first group says whether it is of types only. */
const IMPORT = /^(?:import|export) (type )?[^;]*?from '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm;

function importsOf(path: string, text: string): readonly Import[] {
  return [...text.matchAll(IMPORT)].flatMap(([, type, from, bare, dynamic]) => {
    const specifier = from ?? bare ?? dynamic ?? '';
    const target = targetOf(path, specifier);
    return target?.endsWith('.ts') === true ? [{ target, isTypeOnly: type !== undefined }] : [];
  });
}

function targetOf(path: string, specifier: string): string | undefined {
  if (specifier.startsWith('.')) return relative(ROOT, resolve(ROOT, dirname(path), specifier));
  const [name, folder] = PACKAGES.find(([prefix]) => specifier.startsWith(prefix)) ?? [];
  return name === undefined || folder === undefined ? undefined : join(folder, specifier.slice(name.length));
}
