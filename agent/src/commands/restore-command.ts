import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { ChunkCacheOptions } from '../restore/chunk-cache.ts';
import { restoreSnapshot, type RestoreOutcome } from '../restore/restorer.ts';
import { findSnapshot } from '../snapshot/catalogue.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import { LIMIT_FLAGS, limitsOf } from './byte-rate.ts';
import type { FlagSpec, ParsedArguments } from './arguments.ts';
import {
  EXIT,
  HELP_FLAG,
  JSON_FLAG,
  openNamedStore,
  STORE_HELP,
  WORKSPACE_FLAG,
  workspaceOf,
  type Command,
} from './command.ts';
import { openRingOf, PASSWORD_FILE_FLAG } from './password.ts';
import { parseSize } from './flag-values.ts';

/** What a cache may hold when its flag does not say. */
const DEFAULT_CACHE_SIZE = '10GiB';

/** Flags of every command that restores. */
export const RESTORE_FLAGS: Readonly<Record<string, FlagSpec>> = {
  first: {
    value: 'pattern',
    multiple: true,
    help: 'Restore what matches before the rest (gitignore syntax); repeatable.',
  },
  cache: {
    value: 'dir[:size]',
    help: `Keep what is fetched there, for the next restore; ${DEFAULT_CACHE_SIZE} when no size is given.`,
  },
  'no-owner': { help: 'Do not restore owners, even as root.' },
};

/** `restore --from <store> --to <dir>` */
export const restoreCommand: Command = {
  spec: {
    name: 'restore',
    positionals: [],
    summary: 'Restores a snapshot into a folder; what is there already is not fetched again.',
    flags: {
      from: { value: 'store', required: true, help: STORE_HELP },
      to: { value: 'dir', required: true, help: 'Folder to restore into; made when absent.' },
      snapshot: { value: 'id', help: '`latest` (default), an id or the beginning of one.' },
      include: { value: 'glob', help: 'Only paths that match, and what lies below them.' },
      ...RESTORE_FLAGS,
      delete: { help: 'Remove what the snapshot does not hold; ignored paths stay.' },
      ...LIMIT_FLAGS,
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, progress, signal }) {
    const how = restoreFlags(args);
    await using store = await openNamedStore(args.required('from'), limitsOf(args));
    const search = { workspaceId: workspaceOf(args), name: args.text('snapshot') ?? 'latest' };
    const ring = await openRingOf(args, store, { create: null, signal });
    const snapshot = await findSnapshot(store, search, { signal });
    const outcome = await restoreSnapshot({
      store,
      snapshot,
      secrets: await secretsFor(ring, store, snapshot, { signal }),
      target: args.required('to'),
      clock,
      include: args.text('include'),
      deleteExtra: args.isSet('delete'),
      ...how,
      onProgress: (state) => progress.update('restore', state),
      signal,
    });
    return {
      json: { kind: 'restored', ...outcome },
      text: describeRestore(outcome),
      exitCode: outcome.attributeFlaws.count > 0 ? EXIT.flawed : EXIT.done,
    };
  },
};

/** What {@link RESTORE_FLAGS} say. @throws {DumontError} USAGE */
export function restoreFlags(args: ParsedArguments): {
  readonly first: readonly string[];
  readonly cache: ChunkCacheOptions | undefined;
  readonly owners: boolean;
} {
  const cache = args.text('cache');
  return {
    first: args.texts('first'),
    cache: cache === undefined ? undefined : parseCache(cache),
    owners: !args.isSet('no-owner'),
  };
}

/** For people: one line, and one for each attribute the system refused, of the first ones. */
export function describeRestore(outcome: RestoreOutcome): string {
  const { snapshotId, fileCount, keptFileCount, bytesFetched, bytesWritten, totalMs, removedCount } = outcome;
  const { attributeFlaws, readyMs, bytesFromCache } = outcome;
  const cached = bytesFromCache === 0 ? '' : `, ${formatBytes(bytesFromCache)} from the cache`;
  const first = readyMs.priority === null ? '' : `, what comes first in ${formatDuration(readyMs.priority)}`;
  const lines = [
    `restored ${snapshotId}: ${fileCount} files, ${keptFileCount} of them there already; ` +
      `${formatBytes(bytesFetched)} fetched${cached}, ${formatBytes(bytesWritten)} written, ${removedCount} removed ` +
      `in ${formatDuration(totalMs)}${first}`,
    ...attributeFlaws.listed.map((flaw) => `attribute not restored: ${flaw}`),
  ];
  const unlisted = attributeFlaws.count - attributeFlaws.listed.length;
  if (unlisted > 0) lines.push(`and ${unlisted} attributes more`);
  return lines.join('\n');
}

function parseCache(text: string): ChunkCacheOptions {
  const colon = text.lastIndexOf(':');
  if (colon <= 0) return { dir: text, maxBytes: parseSize('cache', DEFAULT_CACHE_SIZE) };
  return { dir: text.slice(0, colon), maxBytes: parseSize('cache', text.slice(colon + 1)) };
}
