import { formatBytes } from '@dumont/shared/util/units.ts';
import type { Entry } from '@dumont/shared/format/manifest.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { verifySnapshot, type DataSample } from '../restore/verify.ts';
import { findSnapshot, listSnapshots } from '../snapshot/catalogue.ts';
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
import type { ParsedArguments } from './arguments.ts';
import { parseCount, parseShare } from './flag-values.ts';

/** Seeds are short enough to be typed again. */
const MAX_SEED = 1_000_000;

const FROM_FLAG = { value: 'store', required: true, help: STORE_HELP };
const SNAPSHOT_FLAG = { value: 'id', help: '`latest` (default), an id or the beginning of one.' };

/** `snapshots --from <store>` */
export const snapshotsCommand: Command = {
  spec: {
    name: 'snapshots',
    positionals: [],
    summary: 'Lists the snapshots a store holds, oldest first.',
    flags: { from: FROM_FLAG, workspace: WORKSPACE_FLAG, json: JSON_FLAG, help: HELP_FLAG },
  },
  async run(args, { signal }) {
    await using store = await openNamedStore(args.required('from'));
    const workspaceId = workspaceOf(args);
    const snapshots = await listSnapshots(store, workspaceId, { signal });
    const rows = snapshots.map((one) => `${one.snapshotId}  epoch ${one.epoch}  seq ${one.seq}  by ${one.writerId}`);
    return {
      json: { workspaceId, snapshots },
      text: rows.length === 0 ? `no snapshots of workspace ${workspaceId}` : rows.join('\n'),
      exitCode: EXIT.done,
    };
  },
};

/** `verify --from <store>` */
export const verifyCommand: Command = {
  spec: {
    name: 'verify',
    positionals: [],
    summary: 'Checks that a snapshot can be restored, without restoring it.',
    flags: {
      from: FROM_FLAG,
      snapshot: SNAPSHOT_FLAG,
      'read-data': {
        value: 'n%',
        bare: '100%',
        help: 'Fetch and check every chunk, or a random share of them, not only the structure.',
      },
      seed: { value: 'number', help: 'Draws the share of an earlier run again.' },
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, progress, signal }) {
    const readData = sampleOf(args);
    await using store = await openNamedStore(args.required('from'));
    const search = { workspaceId: workspaceOf(args), name: args.text('snapshot') ?? 'latest' };
    const ring = await openRingOf(args, store, { create: null, signal });
    const snapshot = await findSnapshot(store, search, { signal });
    const outcome = await verifySnapshot({
      store,
      snapshot,
      secrets: await secretsFor(ring, store, snapshot, { signal }),
      clock,
      readData,
      onProgress: (state) => progress.update('verify', state),
      signal,
    });
    const isGood = outcome.problemCount === 0;
    const looked = `${outcome.fileCount} files, ${outcome.chunkCount} chunks in ${outcome.packCount} packs`;
    const share = readData === null ? '' : `, ${outcome.chunksRead} chunks checked (seed ${readData.seed})`;
    const text = isGood
      ? `${snapshot.snapshotId} is good: ${looked}, ${formatBytes(outcome.bytesRead)} read${share}`
      : `${snapshot.snapshotId} is damaged, ${outcome.problemCount} problems:\n${outcome.problems.join('\n')}`;
    const json = { kind: isGood ? 'good' : 'damaged', snapshotId: snapshot.snapshotId, readData, ...outcome };
    return { json, text, exitCode: isGood ? EXIT.done : EXIT.failed };
  },
};

/** `ls --from <store>` */
export const lsCommand: Command = {
  spec: {
    name: 'ls',
    positionals: [],
    summary: 'Lists what a snapshot holds.',
    flags: {
      from: FROM_FLAG,
      snapshot: SNAPSHOT_FLAG,
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { signal }) {
    await using store = await openNamedStore(args.required('from'));
    const search = { workspaceId: workspaceOf(args), name: args.text('snapshot') ?? 'latest' };
    const ring = await openRingOf(args, store, { create: null, signal });
    const snapshot = await findSnapshot(store, search, { signal });
    const secrets = await secretsFor(ring, store, snapshot, { signal });
    const { manifest } = await readManifest(store, snapshot, { secrets, signal });
    const entries = manifest.entries.map((entry) => {
      if (entry.type !== 'file') return entry;
      const { chunks, ...rest } = entry;
      return { ...rest, chunkCount: chunks.length };
    });
    return {
      json: { snapshotId: snapshot.snapshotId, entries },
      text: manifest.entries.map(row).join('\n'),
      exitCode: EXIT.done,
    };
  },
};

/** What `--read-data` and `--seed` say; null without the first. @throws {DumontError} USAGE */
function sampleOf(args: ParsedArguments): DataSample | null {
  const share = args.text('read-data');
  const seed = args.text('seed');
  if (share === undefined) return null;
  return {
    share: parseShare('read-data', share),
    seed: seed === undefined ? Math.floor(systemRandom.next() * MAX_SEED) : parseCount('seed', seed),
  };
}

/** Names are shown as they are, but for control characters, which could drive a terminal. */
function row(entry: Entry): string {
  const size = entry.type === 'file' ? formatBytes(entry.size) : '-';
  const mode = entry.type === 'hardlink' ? '' : entry.mode.toString(8).padStart(4, '0');
  const target = entry.type === 'symlink' || entry.type === 'hardlink' ? ` -> ${entry.target}` : '';
  const name = `${entry.path}${target}`.replaceAll(/\p{Cc}/gu, '\uFFFD');
  return `${entry.type.padEnd(8)} ${mode.padEnd(4)} ${size.padStart(9)}  ${name}`;
}
