import { writeFile } from 'node:fs/promises';
import type { AgentArchitecture } from '../../shared/src/model/agent-release.ts';
import { isDumontError } from '../../shared/src/util/errors.ts';
import { packageFile } from './packages.ts';
import { runTool } from './run-tool.ts';

/** Programs that strip an executable of each machine, best first; each handles its own machine, llvm-strip all. */
const STRIPPERS: Readonly<Record<AgentArchitecture, readonly string[]>> = {
  x64: process.arch === 'x64' ? ['strip', 'llvm-strip'] : ['x86_64-linux-gnu-strip', 'llvm-strip'],
  arm64: process.arch === 'arm64' ? ['strip', 'llvm-strip'] : ['aarch64-linux-gnu-strip', 'llvm-strip'],
};

/**
 * Writes the pinned Node for a machine to a file, without its symbols where a program that can do so is here: that
 * makes it 18 MB smaller. It must happen before anything is put into it.
 * @returns what stripped it, null when nothing could
 */
export async function writeBaseNode(arch: AgentArchitecture, path: string): Promise<string | null> {
  await writeFile(path, await packageFile(`node-linux-${arch}`, 'bin/node'), { mode: 0o755 });
  for (const stripper of STRIPPERS[arch]) {
    try {
      await runTool(stripper, [path], {});
      return stripper;
    } catch (error) {
      if (!isDumontError(error, 'NOT_FOUND')) throw error;
    }
  }
  return null;
}
