import { formatBytes } from '@dumont/shared/util/units.ts';
import { checkStore, type FsckOutcome } from '../catalogue/fsck.ts';
import { packReader } from '../catalogue/references.ts';
import { secretsFor } from '../secrets/key-ring.ts';
import { EXIT, HELP_FLAG, JSON_FLAG, openNamedStore, refuseEmptyStore, STORE_HELP, type Command } from './command.ts';
import { openRingOf, PASSWORD_FILE_FLAG } from './password.ts';

/** `fsck --from <store>` */
export const fsckCommand: Command = {
  spec: {
    name: 'fsck',
    positionals: [],
    summary: 'Checks a whole store: every pack, every snapshot, the index. For the data itself see verify --read-data.',
    flags: {
      from: { value: 'store', required: true, help: STORE_HELP },
      repair: { help: 'Make the index anew from the packs.' },
      'password-file': PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { progress, signal }) {
    await using store = await openNamedStore(args.required('from'));
    const ring = await openRingOf(args, store, { create: null, signal });
    const outcome = await checkStore({
      store,
      readPacks: packReader(store, (ref, reading) => secretsFor(ring, store, ref, reading)),
      repair: args.isSet('repair'),
      onProgress: (phase, done, total) => progress.count(phase, done, total),
      signal,
    });
    refuseEmptyStore(args.required('from'), outcome.packCount + outcome.snapshotCount + outcome.problemCount);
    const isGood = outcome.problemCount === 0;
    const json = { kind: isGood ? 'good' : 'damaged', ...outcome };
    return { json, text: describe(outcome), exitCode: isGood ? EXIT.done : EXIT.failed };
  },
};

function describe(outcome: FsckOutcome): string {
  const { problems, problemCount, notes, packCount, packBytes, chunkCount, snapshotCount } = outcome;
  const looked = `${snapshotCount} snapshots, ${chunkCount} chunks in ${packCount} packs, ${formatBytes(packBytes)}`;
  const lines = [problemCount === 0 ? `the store is good: ${looked}` : `the store is damaged: ${looked}`, ...problems];
  if (problemCount > problems.length) lines.push(`and ${problemCount - problems.length} more problems`);
  lines.push(...notes);
  const { unindexedPacks, unindexedChunks, stalePacks, rebuilt } = outcome;
  if (unindexedPacks > 0) lines.push(`no index tells of ${unindexedPacks} packs with ${unindexedChunks} chunks`);
  if (stalePacks > 0) lines.push(`the index tells of ${stalePacks} packs that are gone`);
  if (rebuilt !== null) lines.push(`the index was made anew, in ${rebuilt} objects`);
  else if (unindexedPacks + stalePacks + notes.length > 0)
    lines.push('nothing is lost by that; --repair puts it right');
  return lines.join('\n');
}
