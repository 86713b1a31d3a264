import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { workspaceIdSchema } from '@dumont/shared/protocol/primitives.ts';
import { systemClock, type Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { openStore, type OpenStore } from '../storage/open-store.ts';
import type { BandwidthLimits } from '../storage/paced-store.ts';
import { grantFromUrl } from '../storage/store-url.ts';
import type { CommandSpec, FlagSpec, ParsedArguments } from './arguments.ts';
import type { ProgressBar } from './progress-bar.ts';

/** Where a command writes; results on `stdout`, everything else on `stderr`. */
export interface CommandIo {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  /** True when a person watches `stderr`. */
  readonly isTty: boolean;
}

/** Exit codes of every command. */
export const EXIT = { done: 0, failed: 1, usage: 2, flawed: 3 } as const;

export interface CommandContext {
  readonly clock: Clock;
  readonly progress: ProgressBar;
  readonly signal: AbortSignal;
  /** Prints one line on stdout before the command ends, for those that go on and on. */
  readonly print: (line: string) => void;
}

/** What a command found: one JSON object, the same for people, and how to exit. */
export interface CommandResult {
  readonly json: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly exitCode: number;
}

export interface Command {
  readonly spec: CommandSpec;
  run(args: ParsedArguments, context: CommandContext): Promise<CommandResult>;
}

/** The workspace of snapshots made without a control plane when none is named. */
const DEFAULT_WORKSPACE_ID = 'ws_00000000000000000000' as WorkspaceId;

export const WORKSPACE_FLAG: FlagSpec = {
  value: 'id',
  help: `Workspace id; ${DEFAULT_WORKSPACE_ID} when absent.`,
};
export const JSON_FLAG: FlagSpec = { help: 'Print one JSON object.' };
export const HELP_FLAG: FlagSpec = { help: 'Print this text.' };
export const STORE_HELP = 'file:///path, or s3://bucket/prefix with its variables (b2:, r2:, wasabi:, minio: likewise)';

/** The `--workspace` flag. @throws {DumontError} USAGE */
export function workspaceOf(args: ParsedArguments): WorkspaceId {
  const text = args.text('workspace');
  if (text === undefined) return DEFAULT_WORKSPACE_ID;
  const parsed = workspaceIdSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new DumontError('USAGE', `--workspace ${text}: it ${parsed.error.issues[0]?.message ?? 'is not valid'}`, {
    field: 'workspace',
  });
}

/**
 * What works on a whole store refuses one that holds nothing: a mistyped address would look like work well done.
 * @throws {DumontError} NOT_FOUND
 */
export function refuseEmptyStore(url: string, objectCount: number): void {
  if (objectCount > 0) return;
  throw new DumontError('NOT_FOUND', `there are no snapshots in ${url}`, {
    field: 'from',
    hint: 'Check the address of the store.',
  });
}

/** The store named by a flag. The caller disposes it. @throws {DumontError} USAGE */
export function openNamedStore(url: string, limits: BandwidthLimits = {}): Promise<OpenStore> {
  return openStore(grantFromUrl(url, process.env), { clock: systemClock, random: systemRandom, limits });
}
