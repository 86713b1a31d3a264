import { systemRandom } from '@dumont/shared/util/random.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import { probeStore, type ProbeCheck, type StoreProbe } from '../storage/probe-store.ts';
import { grantFromUrl } from '../storage/store-url.ts';
import { EXIT, HELP_FLAG, JSON_FLAG, STORE_HELP, type Command } from './command.ts';

const VERDICTS: Readonly<Record<StoreProbe['verdict'], { readonly text: string; readonly exitCode: number }>> = {
  ready: { text: 'the store is ready for snapshots', exitCode: EXIT.done },
  limited: { text: 'snapshots work here, but read the lines marked ! or x', exitCode: EXIT.flawed },
  unusable: { text: 'this store cannot hold snapshots as it is', exitCode: EXIT.failed },
};
const MARKS: Readonly<Record<ProbeCheck['outcome'], string>> = { ok: '+', warning: '!', failed: 'x', skipped: '-' };

/** `probe --store <store>` */
export const probeCommand: Command = {
  spec: {
    name: 'probe',
    positionals: [],
    summary: 'Tries what a store and its credentials can do, and says what to fix.',
    flags: { store: { value: 'store', required: true, help: STORE_HELP }, json: JSON_FLAG, help: HELP_FLAG },
  },
  async run(args, { clock, signal }) {
    const url = args.required('store');
    const probe = await probeStore(grantFromUrl(url, process.env), { clock, random: systemRandom, signal });
    const { text, exitCode } = VERDICTS[probe.verdict];
    const left = probe.leftBehind.map((key) => `left behind: ${key}`);
    return {
      json: { ...probe },
      text: [`${url} (profile ${probe.profile})`, ...probe.checks.flatMap(rows), ...left, text].join('\n'),
      exitCode,
    };
  },
};

function rows({ name, outcome, ms, note, hint }: ProbeCheck): string[] {
  const took = outcome === 'skipped' || ms === 0 ? '' : formatDuration(ms);
  const row = `${MARKS[outcome]} ${name.padEnd(16)} ${took.padStart(8)}  ${note}`;
  return hint === undefined ? [row] : [row, `${' '.repeat(29)}${hint}`];
}
