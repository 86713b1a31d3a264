import { randomBytes } from 'node:crypto';
import { formatBytes } from '@dumont/shared/util/units.ts';
import { prune, type PruneOutcome } from '../catalogue/prune.ts';
import { packReader } from '../catalogue/references.ts';
import type { RetentionPolicy } from '../catalogue/retention.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import type { ParsedArguments } from './arguments.ts';
import {
  EXIT,
  HELP_FLAG,
  JSON_FLAG,
  openNamedStore,
  refuseEmptyStore,
  STORE_HELP,
  WORKSPACE_FLAG,
  workspaceOf,
  type Command,
} from './command.ts';
import { parseCount, parseDuration } from './flag-values.ts';
import { openRingOf, PASSWORD_FILE_FLAG } from './password.ts';

/** A snapshot that takes longer than a day is more likely dead than slow; if it is not, it starts over. */
const DEFAULT_REVOKE = '1d';
/** Most snapshots take minutes. */
const DEFAULT_WAIT = '10m';

/** `prune --from <store> --keep-last N …` */
export const pruneCommand: Command = {
  spec: {
    name: 'prune',
    positionals: [],
    summary:
      'Forgets snapshots that no --keep rule keeps, then deletes data that nothing needs. Without a rule none is forgotten.',
    flags: {
      from: { value: 'store', required: true, help: STORE_HELP },
      'keep-last': { value: 'n', help: 'Keep the newest n snapshots of each workspace.' },
      'keep-hourly': {
        value: 'n',
        help: 'Keep the last snapshot of each of n hours (UTC, by the clock of the store).',
      },
      'keep-daily': { value: 'n', help: 'The same for days.' },
      'keep-weekly': { value: 'n', help: 'The same for weeks.' },
      'keep-monthly': { value: 'n', help: 'The same for months.' },
      'keep-within': { value: 'time', help: 'Keep what is at most so much older than the newest, such as 12h or 7d.' },
      workspace: { ...WORKSPACE_FLAG, help: 'Forget snapshots of this workspace only; of all when absent.' },
      'revoke-older-than': {
        value: 'time',
        help: `Do not wait for snapshots being made since longer; they fail and may be retried. ${DEFAULT_REVOKE} when absent.`,
      },
      wait: { value: 'time', help: `Longest wait for snapshots being made. ${DEFAULT_WAIT} when absent.` },
      'password-file': PASSWORD_FILE_FLAG,
      'dry-run': { help: 'Only tell what would be done.' },
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, progress, signal }) {
    const policy = policyOf(args);
    const revokeOlderThanMs =
      durationOf(args, 'revoke-older-than') ?? parseDuration('revoke-older-than', DEFAULT_REVOKE);
    const waitMs = durationOf(args, 'wait') ?? parseDuration('wait', DEFAULT_WAIT);
    const workspaceId = args.text('workspace') === undefined ? undefined : workspaceOf(args);
    await using store = await openNamedStore(args.required('from'));
    const ring = await openRingOf(args, store, { create: null, signal });
    const outcome = await prune({
      store,
      pruneId: randomBytes(16).toString('hex'),
      clock,
      readPacks: packReader(store, (ref, reading) => secretsFor(ring, store, ref, reading)),
      policy,
      workspaceId,
      revokeOlderThanMs,
      waitMs,
      dryRun: args.isSet('dry-run'),
      onProgress: (phase, done, total) => progress.count(phase, done, total),
      signal,
    });
    refuseEmptyStore(args.required('from'), outcome.packCount + outcome.keptCount + outcome.forgotten.length);
    return {
      json: { ...outcome },
      text: describe(outcome),
      exitCode: outcome.kind === 'deferred' ? EXIT.flawed : EXIT.done,
    };
  },
};

function policyOf(args: ParsedArguments): RetentionPolicy {
  return {
    keepLast: countOf(args, 'keep-last'),
    keepHourly: countOf(args, 'keep-hourly'),
    keepDaily: countOf(args, 'keep-daily'),
    keepWeekly: countOf(args, 'keep-weekly'),
    keepMonthly: countOf(args, 'keep-monthly'),
    keepWithinMs: durationOf(args, 'keep-within'),
  };
}

function countOf(args: ParsedArguments, flag: string): number | undefined {
  const text = args.text(flag);
  return text === undefined ? undefined : parseCount(flag, text);
}

function durationOf(args: ParsedArguments, flag: string): number | undefined {
  const text = args.text(flag);
  return text === undefined ? undefined : parseDuration(flag, text);
}

function describe(outcome: PruneOutcome): string {
  const { kind, forgotten, keptCount, managed, deletedPacks, deletedBytes, packCount, packBytes } = outcome;
  const would = kind === 'dry-run' ? 'would be ' : '';
  const lines = [
    `${forgotten.length} snapshots ${would}forgotten, ${keptCount} kept`,
    `${deletedPacks} of ${packCount} packs ${would}deleted, ${formatBytes(deletedBytes)} of ${formatBytes(packBytes)}`,
  ];
  for (const workspaceId of managed) {
    lines.push(`workspace ${workspaceId} is left as it is: a control plane manages it`);
  }
  for (const snapshotId of outcome.revoked)
    lines.push(`not waited for: snapshot ${snapshotId}, which was never finished`);
  if (kind === 'deferred') {
    lines.push(
      `nothing deleted yet: ${outcome.waitedFor.length} snapshots are being made or were broken off ` +
        `(${outcome.waitedFor.slice(0, 3).join(', ')}). Prune again later, or with a shorter --revoke-older-than.`,
    );
  }
  return lines.join('\n');
}
