import { CHECKS } from '../doctor/checks.ts';
import { countStatuses, renderFixes, renderReport } from '../doctor/report.ts';
import { runChecks, selectChecks } from '../doctor/run-checks.ts';
import { readSituation } from '../doctor/situation.ts';
import { AGENT_VERSION } from '../version.ts';
import { EXIT, HELP_FLAG, JSON_FLAG, STORE_HELP, type Command } from './command.ts';

/** `doctor`; exits with 1 when a check failed */
export const doctorCommand: Command = {
  spec: {
    name: 'doctor',
    positionals: [],
    summary: 'Looks for everything that may be wrong on this machine, and says how to mend it.',
    flags: {
      only: { value: 'ids', multiple: true, help: 'Only these checks, by their ids, separated by commas.' },
      to: { value: 'store', help: `Try this store: ${STORE_HELP}.` },
      'fix-hints-only': { help: 'Print only what to do.' },
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, { clock, signal }) {
    const ids = args.texts('only').flatMap((text) => text.split(',').map((id) => id.trim()));
    const checks = ids.length === 0 ? CHECKS : selectChecks(CHECKS, ids);
    const situation = await readSituation({ environment: process.env, storeUrl: args.text('to') ?? null, clock });
    const results = await runChecks(checks, situation, signal);
    const counts = countStatuses(results);
    const isColoured = process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '';
    return {
      json: { version: AGENT_VERSION, healthy: counts.fail === 0, counts, checks: results },
      text: args.isSet('fix-hints-only') ? renderFixes(results) : renderReport(results, isColoured),
      exitCode: counts.fail === 0 ? EXIT.done : EXIT.failed,
    };
  },
};
