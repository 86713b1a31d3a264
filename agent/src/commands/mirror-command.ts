import { systemRandom } from '@dumont/shared/util/random.ts';
import { mirrorWorkspace } from '../restore/mirror.ts';
import { RingKeeper } from '../secrets/ring-keeper.ts';
import { LIMIT_FLAGS, limitsOf } from './byte-rate.ts';
import { EXIT, HELP_FLAG, openNamedStore, STORE_HELP, WORKSPACE_FLAG, workspaceOf } from './command.ts';
import type { Command } from './command.ts';
import { parseDuration } from './flag-values.ts';
import { PASSWORD_FILE_FLAG, passwordOf } from './password.ts';
import { describeRestore, RESTORE_FLAGS, restoreFlags } from './restore-command.ts';

const DEFAULT_INTERVAL = '2s';

/** `mirror --from <store> --to <dir>` */
export const mirrorCommand: Command = {
  spec: {
    name: 'mirror',
    positionals: [],
    summary: 'Restores the newest snapshot and follows new ones until stopped; local changes are undone.',
    flags: {
      from: { value: 'store', required: true, help: STORE_HELP },
      to: { value: 'dir', required: true, help: 'Folder to keep equal to the newest snapshot; made when absent.' },
      interval: { value: 'time', help: `How often to look for a new snapshot; ${DEFAULT_INTERVAL} when absent.` },
      ...RESTORE_FLAGS,
      ...LIMIT_FLAGS,
      workspace: WORKSPACE_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      json: { help: 'Print one JSON object per line.' },
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, progress, signal, print }) {
    const intervalMs = parseDuration('interval', args.text('interval') ?? DEFAULT_INTERVAL);
    const how = restoreFlags(args);
    const wantsJson = args.isSet('json');
    await using store = await openNamedStore(args.required('from'), limitsOf(args));
    const keys = new RingKeeper({ store, password: await passwordOf(args), label: 'mirror', clock });
    const appliedCount = await mirrorWorkspace({
      store,
      workspaceId: workspaceOf(args),
      target: args.required('to'),
      clock,
      random: systemRandom,
      secretsFor: (snapshot) => keys.secretsFor(snapshot, { signal }),
      intervalMs,
      deleteExtra: true,
      ...how,
      onProgress: (state) => progress.update('mirror', state),
      onApplied: (outcome) =>
        print(wantsJson ? JSON.stringify({ kind: 'restored', ...outcome }) : describeRestore(outcome)),
      onOutage: ({ code, message }) =>
        print(wantsJson ? JSON.stringify({ kind: 'outage', code, message }) : `waiting: ${message}`),
      signal,
    });
    return {
      json: { kind: 'stopped', appliedCount },
      text: `stopped after ${appliedCount} snapshots`,
      exitCode: EXIT.done,
    };
  },
};
