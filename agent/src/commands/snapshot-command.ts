import { realpath } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import { findLatest } from '../snapshot/catalogue.ts';
import { hashHex } from '../snapshot/chunk-codec.ts';
import { StatCache } from '../snapshot/stat-cache.ts';
import { linkEffort } from '../snapshot/planes/effort.ts';
import type { SnapshotOutcome } from '../snapshot/snapshot-outcome.ts';
import { Snapshotter } from '../snapshot/snapshotter.ts';
import { grantFromUrl } from '../storage/store-url.ts';
import type { ParsedArguments } from './arguments.ts';
import { LIMIT_FLAGS, limitsOf } from './byte-rate.ts';
import { cacheFolder } from '../host/cache-folder.ts';
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

/** Recorded in manifests as the tool's version. */
const TOOL_VERSION = '0.1.0';
/** Snapshots made by hand have no lease; any epoch of a control plane is above theirs. */
const STANDALONE_EPOCH = 0;
const STANDALONE_WRITER = 'standalone';
/** Of the key that the first snapshot with a password makes. */
const FIRST_KEY_LABEL = 'first';
const MAX_SHOWN = 20;

/** `snapshot <dir> --to <store>` */
export const snapshotCommand: Command = {
  spec: {
    name: 'snapshot',
    positionals: ['dir'],
    summary: 'Takes a snapshot of a folder; only what changed since the last one is uploaded.',
    flags: {
      to: { value: 'store', required: true, help: STORE_HELP },
      effort: {
        value: 'fast|small|auto',
        help: 'small stores fewer bytes and takes more time (Zstandard beside LZ4); auto: fast into a folder, else by the link.',
      },
      ...LIMIT_FLAGS,
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      'no-cache': { help: 'Read every file again, whatever was remembered of the last run.' },
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, progress, signal }) {
    const workspaceId = workspaceOf(args);
    const effortFlag = effortOf(args);
    const root = await openFolder(args.positionals[0] ?? '');
    await refuseStoreInside(root, args.required('to'));
    await using store = await openNamedStore(args.required('to'), limitsOf(args));
    const grant = grantFromUrl(args.required('to'), process.env);
    const effort = effortFlag === 'auto' ? linkEffort(grant, store.throughput()) : effortFlag;
    const begunMs = clock.monotonicMs();
    const create = { createdAtMs: clock.nowMs(), label: FIRST_KEY_LABEL };
    const ring = await openRingOf(args, store, { create, signal });
    const parent = await findLatest(store, workspaceId, { signal });
    const snapshotter = new Snapshotter({
      store,
      root,
      workspaceId,
      writerId: STANDALONE_WRITER,
      clock,
      toolVersion: TOOL_VERSION,
      statCache: args.isSet('no-cache') ? undefined : openStatCache(root, args.required('to'), workspaceId),
      coding: { secrets: await secretsFor(ring, store, parent, { signal }), effort },
    });
    const outcome = await snapshotter.create({
      epoch: STANDALONE_EPOCH,
      parent,
      onProgress: (state) => progress.update('snapshot', state),
      signal,
    });
    const totalMs = clock.monotonicMs() - begunMs;
    const { tornPaths } = outcome;
    const leftOut = outcome.skipped.filter((one) => one.kind !== 'special');
    const flaws = { tornPaths, skipped: outcome.skipped };
    const json =
      outcome.kind === 'unchanged'
        ? { kind: outcome.kind, workspaceId, snapshotId: parent?.snapshotId ?? null, totalMs, ...flaws }
        : { kind: outcome.kind, workspaceId, ...outcome.record, ...outcome.stats, totalMs, ...flaws };
    return {
      json,
      text: describe(outcome, parent?.snapshotId),
      exitCode: tornPaths.length + leftOut.length > 0 ? EXIT.flawed : EXIT.done,
    };
  },
};

/** What is remembered of one folder and store, in a file of this user's cache. */
function openStatCache(root: string, store: string, workspaceId: string): StatCache {
  const name = hashHex(Buffer.from(JSON.stringify([root, store, workspaceId])));
  return new StatCache(join(cacheFolder(process.env), 'stat', name));
}

/** @throws {DumontError} USAGE */
function effortOf(args: ParsedArguments): 'fast' | 'small' | 'auto' {
  const text = args.text('effort') ?? 'auto';
  if (text === 'fast' || text === 'small' || text === 'auto') return text;
  throw new DumontError('USAGE', `--effort ${JSON.stringify(text)} is not fast, small or auto`, { field: 'effort' });
}

async function openFolder(dir: string): Promise<string> {
  try {
    return await realpath(dir);
  } catch (error) {
    throw toDumontError(error, 'IO', `opening the folder ${resolve(dir)}`);
  }
}

/** A store inside the folder would be part of each next snapshot of it, without end. */
async function refuseStoreInside(root: string, url: string): Promise<void> {
  const grant = grantFromUrl(url, process.env);
  if (grant.kind !== 'file') return;
  const path = await realpath(grant.path).catch(() => grant.path);
  if (path !== root && !path.startsWith(root + sep)) return;
  throw new DumontError('USAGE', `the store ${path} lies inside the folder ${root}`, {
    field: 'to',
    hint: 'Keep the store outside the folder it holds snapshots of.',
  });
}

function describe(outcome: SnapshotOutcome, parentId: string | undefined): string {
  const lines: string[] = [];
  if (outcome.kind === 'unchanged') {
    lines.push(`nothing changed since ${parentId ?? 'the last snapshot'}`);
  } else {
    const { snapshotId, fileCount, totalBytes, newBytes, storedBytes, createMs } = outcome.record;
    lines.push(
      `snapshot ${snapshotId}: ${fileCount} files, ${formatBytes(totalBytes)}; ` +
        `${formatBytes(newBytes)} new, ${formatBytes(storedBytes)} stored in ${formatDuration(createMs)}`,
    );
  }
  const flaws = [
    ...outcome.tornPaths.map((path) => `changed while being read: ${JSON.stringify(path)}`),
    ...outcome.skipped.map((one) => `not in the snapshot: ${JSON.stringify(one.path)} (${one.reason})`),
  ];
  lines.push(...flaws.slice(0, MAX_SHOWN));
  if (flaws.length > MAX_SHOWN) lines.push(`and ${flaws.length - MAX_SHOWN} more; --json lists all`);
  return lines.join('\n');
}
