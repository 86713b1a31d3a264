import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import { formatBytes } from '@dumont/shared/util/units.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import { diffSnapshots, type SnapshotDiff } from '../snapshot/diff.ts';
import { findSnapshot } from '../snapshot/catalogue.ts';
import { readManifest } from '../snapshot/manifest-store.ts';
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

/** Marks of the four lists, one letter before each path. */
const MARKS = { added: '+', removed: '-', changed: 'M', metadata: 'm' } as const;

/** `diff --from <store> <a> <b>` */
export const diffCommand: Command = {
  spec: {
    name: 'diff',
    positionals: ['a', 'b'],
    summary: 'Tells what differs between two snapshots.',
    flags: {
      from: { value: 'store', required: true, help: STORE_HELP },
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { signal }) {
    await using store = await openNamedStore(args.required('from'));
    const workspaceId = workspaceOf(args);
    const ring = await openRingOf(args, store, { create: null, signal });
    const [a = '', b = ''] = args.positionals;
    const [from, to] = [
      await findSnapshot(store, { workspaceId, name: a }, { signal }),
      await findSnapshot(store, { workspaceId, name: b }, { signal }),
    ];
    const read = async (ref: SnapshotRef) =>
      readManifest(store, ref, { secrets: await secretsFor(ring, store, ref, { signal }), signal });
    const before = await read(from);
    const after = await read(to);
    const diff = diffSnapshots(before.manifest, after.manifest);
    return {
      json: { from: from.snapshotId, to: to.snapshotId, ...diff },
      text: describe(diff),
      exitCode: EXIT.done,
    };
  },
};

function describe(diff: SnapshotDiff): string {
  const lines = Object.entries(MARKS).flatMap(([list, mark]) =>
    diff[list as keyof typeof MARKS].map((path) => ({ path, mark })),
  );
  lines.sort((a, b) => (a.path < b.path ? -1 : 1));
  // Names are shown as they are, but for control characters, which could drive a terminal.
  const rows = lines.map(({ path, mark }) => `${mark} ${path.replaceAll(/\p{Cc}/gu, '\uFFFD')}`);
  const { added, removed, changed, metadata, addedBytes, removedBytes } = diff;
  const sums =
    `${added.length} added, ${removed.length} removed, ${changed.length} changed, ${metadata.length} with other metadata; ` +
    `${formatBytes(addedBytes)} of content only in the second, ${formatBytes(removedBytes)} only in the first`;
  return [...rows, sums].join('\n');
}
