import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { runTool } from './run-tool.ts';

/** Where Node looks for its application, and the mark in its image that says there is one. Both are Node's. */
const RESOURCE = 'NODE_SEA_BLOB';
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/** V8 otherwise shows each of its threads' heaps the built-in functions at a second address: 2 MB that count twice. */
const BUILTINS_ONCE = '--no-short-builtin-calls';

/**
 * Flags of the agent's own Node. A small nursery halves what an idle agent keeps, at no cost that shows; the old
 * generation keeps its default bound, because a snapshot of a large tree needs room.
 */
const EXEC_ARGV = ['--max-semi-space-size=2', BUILTINS_ONCE];

/**
 * The script's compiled form, made beforehand, saves 50 ms of every start. Without the seed it would differ from build to
 * build; of the other seed V8 makes it a part, and would refuse what was compiled under one that is fixed, as it does what
 * was compiled for other calls of built-in functions.
 */
const CACHE_ARGV = ['--random-seed=1', BUILTINS_ONCE];

const POSTJECT = createRequire(import.meta.url).resolve('postject/dist/cli.js');

export interface ExecutableParts {
  /** A CommonJS script. */
  readonly main: Uint8Array;
  readonly assets: ReadonlyMap<string, Uint8Array>;
  /** The executable is for machines such as this one, so that code compiled here serves there. */
  readonly isForThisArchitecture: boolean;
}

/**
 * Writes what a single executable holds beside Node. Must run under the Node version that it is for. Where it is made for
 * another architecture the script is compiled at each start; else it is the same.
 * @param folder empty; holds the parts and the result
 * @returns path of the result
 */
export async function prepareBlob(
  folder: string,
  { main, assets, isForThisArchitecture }: ExecutableParts,
): Promise<string> {
  await writeFile(join(folder, 'main.cjs'), main);
  for (const [name, bytes] of assets) await writeFile(join(folder, name), bytes);
  const config = {
    // Relative: it is kept in the blob, which must not tell where it was built.
    main: 'main.cjs',
    output: 'blob',
    disableExperimentalSEAWarning: true,
    useSnapshot: false,
    useCodeCache: isForThisArchitecture,
    execArgv: EXEC_ARGV,
    // NODE_OPTIONS of the machine is for the user's programs.
    execArgvExtension: 'none',
    assets: Object.fromEntries([...assets.keys()].map((name) => [name, name])),
  };
  await writeFile(join(folder, 'sea.json'), JSON.stringify(config));
  await runTool(process.execPath, [...CACHE_ARGV, '--experimental-sea-config', 'sea.json'], { cwd: folder });
  return join(folder, 'blob');
}

/**
 * Puts the blob that {@link prepareBlob} left in its folder into a Node executable, in place. In a process of its own: the
 * tool says much that means nothing.
 */
export async function injectBlob(executable: string, blobPath: string): Promise<void> {
  await runTool(process.execPath, [POSTJECT, executable, RESOURCE, blobPath, '--sentinel-fuse', FUSE], {});
}
