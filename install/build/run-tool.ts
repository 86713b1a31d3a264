import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { DumontError, systemErrorCode, toDumontError } from '../../shared/src/util/errors.ts';

const MAX_OUTPUT_BYTES = 1024 * 1024;
/** A slow registry needs minutes for the largest package; what takes longer hangs. */
const TIMEOUT_MS = 600_000;

interface ToolOptions {
  readonly cwd?: string;
  readonly maxBytes?: number;
}

/**
 * Runs a program to its end.
 * @throws {DumontError} NOT_FOUND when there is no such program, UNAVAILABLE when it fails, with what it said
 */
export async function runTool(
  command: string,
  args: readonly string[],
  { cwd, maxBytes = MAX_OUTPUT_BYTES }: ToolOptions,
): Promise<{ readonly stdout: Buffer }> {
  try {
    return await promisify(execFile)(command, args, {
      encoding: 'buffer',
      maxBuffer: maxBytes,
      timeout: TIMEOUT_MS,
      ...(cwd === undefined ? {} : { cwd }),
    });
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') {
      throw new DumontError('NOT_FOUND', `there is no program ${command}`, { cause: error });
    }
    const { stderr } = error as { readonly stderr?: Buffer };
    const said = stderr?.toString('utf8').trim() ?? '';
    const words = said === '' ? toDumontError(error).message : said;
    throw new DumontError('UNAVAILABLE', `${command} ${args.join(' ')} failed: ${words}`, { cause: error });
  }
}
