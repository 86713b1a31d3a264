import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { assetBytes } from '../node/assets.ts';
import { EXIT, HELP_FLAG, JSON_FLAG, type Command } from './command.ts';

/** What an installation needs beside the executable, and which asset it is. */
const HOST_FILES = [
  ['dumont-supervisor', 'supervisor.sh'],
  ['install.sh', 'install.sh'],
] as const;

/** `host-files <dir>`: so that one download is all there is. A file that exists is replaced, never half. */
export const hostFilesCommand: Command = {
  spec: {
    name: 'host-files',
    positionals: ['dir'],
    summary: 'Writes the scripts that install the agent and keep it running into a folder.',
    flags: { json: JSON_FLAG, help: HELP_FLAG },
  },
  async run(args) {
    const folder = resolve(must(args.positionals[0], 'the specification requires it'));
    const files: string[] = [];
    for (const [name, asset] of HOST_FILES) {
      const path = join(folder, name);
      await writeScript(path, assetBytes(asset));
      files.push(path);
    }
    return { json: { files }, text: files.join('\n'), exitCode: EXIT.done };
  },
};

async function writeScript(path: string, bytes: Buffer): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(temporary, bytes);
    // Whatever the umask: it holds no secret, and a service manager of another user may start it.
    await chmod(temporary, 0o755);
    await rename(temporary, path);
  } catch (error) {
    throw toDumontError(error, 'IO', `writing ${path}`);
  }
}
