import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { findSnapshot } from '../snapshot/catalogue.ts';
import { restoreSnapshot } from '../restore/restorer.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import { LIMIT_FLAGS, limitsOf } from './byte-rate.ts';
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
      delete: { help: 'Remove what the snapshot does not hold; ignored paths stay.' },
      ...LIMIT_FLAGS,
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, progress, signal }) {
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
      onProgress: (state) => progress.update('restore', state),
      signal,
    });
    const { snapshotId, fileCount, keptFileCount, bytesFetched, bytesWritten, totalMs, removedCount } = outcome;
    const text =
      `restored ${snapshotId}: ${fileCount} files, ${keptFileCount} of them there already; ` +
      `${formatBytes(bytesFetched)} fetched, ${formatBytes(bytesWritten)} written, ${removedCount} removed ` +
      `in ${formatDuration(totalMs)}`;
    return { json: { kind: 'restored', ...outcome }, text, exitCode: EXIT.done };
  },
};
