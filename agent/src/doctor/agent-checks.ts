import { readFile, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { AGENT_VERSION } from '../version.ts';
import { hasEnvironment, readProcess } from '../workload/process-table.ts';
import { readRunRecord } from '../workload/run-record.ts';
import { RUN_VARIABLE } from '../workload/end-run.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import { readAgentLog } from './agent-log.ts';
import type { Situation } from './situation.ts';

const NEW_TOKEN =
  'dumont machines add --workspace NAME on the control plane gives a new one; then install again with it.';

export const AGENT_CHECKS: readonly Check[] = [
  { id: 'enrolment', title: 'Enrolment', run: checkEnrolment },
  { id: 'agent', title: 'Agent process', run: checkProcess },
  { id: 'agent-version', title: 'Installed version', run: checkVersion },
  { id: 'upgrade', title: 'Upgrade', run: checkUpgrade },
  { id: 'agent-log', title: 'Agent log', run: checkLog },
  { id: 'workload', title: 'Workload', run: checkWorkload },
];

async function checkEnrolment({ stateDir, environment, control }: Situation): Promise<Finding> {
  const path = join(stateDir, 'credential.json');
  const credential = await readOrCode(path);
  const hasToken = (environment['DUMONT_ENROL_TOKEN'] ?? '') !== '';
  const { lastWord } = await readAgentLog(stateDir);
  if ('text' in credential) {
    if (tryParseJson(credential.text) === undefined) {
      return fail(`${path} is damaged`, `Remove it and enrol again. ${NEW_TOKEN}`);
    }
    if (lastWord === 'refused') return fail('the control plane refuses this machine', NEW_TOKEN);
    if (!hasToken) return ok('this machine has its credential');
    return ok('this machine has its credential; the token that is still set is of no use to anybody');
  }
  if (credential.code !== 'ENOENT') return warn(`${path} cannot be read (${credential.code})`, 'Run as its owner.');
  if (!control.isGiven) return skip('no control plane is set');
  if (lastWord === 'refused') return fail('the control plane refused the token: used, expired or wrong', NEW_TOKEN);
  if (hasToken) return ok('not yet; a token is there, the first start uses it');
  return fail('this machine has neither a credential nor a token', NEW_TOKEN);
}

async function checkProcess({ stateDir, isConfigured, layout }: Situation): Promise<Finding> {
  const pidText = await readOrCode(join(stateDir, 'supervisor.pid'));
  const installed = await readOrCode(layout.prefix, (path) => readlink(join(path, 'current')));
  if (!('text' in pidText)) {
    if (!('text' in installed) || !isConfigured) return skip('no agent is installed here');
    return warn(
      'no supervisor has started since the installation',
      'Start it: systemctl start dumont-agent, or install.sh again.',
    );
  }
  const pid = Number.parseInt(pidText.text, 10);
  const row = Number.isInteger(pid) && pid > 0 ? await readProcess(pid) : null;
  if (row === null || row.isZombie) {
    const fix = 'Start it: systemctl start dumont-agent, or dumont-supervisor, or install.sh again.';
    return fail(`the supervisor (process ${pid}) is gone`, fix);
  }
  return ok(`the supervisor runs as process ${pid}`);
}

async function checkVersion({ layout }: Situation): Promise<Finding> {
  const current = await readOrCode(layout.prefix, (path) => readlink(join(path, 'current')));
  if (!('text' in current)) return skip(`this is ${AGENT_VERSION}; nothing is installed in ${layout.prefix}`);
  const installed = basename(current.text);
  if (installed === AGENT_VERSION) return ok(installed);
  return warn(
    `${installed} is installed, this is ${AGENT_VERSION}`,
    `Run the doctor of the installed one: ${layout.link} doctor.`,
  );
}

async function checkUpgrade({ stateDir }: Situation): Promise<Finding> {
  const failed = await readOrCode(join(stateDir, 'upgrade.failed'));
  if ('text' in failed) {
    const { from, to, reason } = fieldsOf(failed.text);
    const detail = `${to ?? 'a version'} did not work (${reason ?? 'no reason given'}); back on ${from ?? 'the old one'}`;
    return warn(detail, 'The agent tells the control plane and removes this note; look at its log for the cause.');
  }
  const pending = await readOrCode(join(stateDir, 'upgrade.pending'));
  if (!('text' in pending)) return ok('none under way');
  const { from, to } = fieldsOf(pending.text);
  const fix = 'It ends within a minute; if not, the supervisor does not run: see the check "agent".';
  return warn(`from ${from ?? '?'} to ${to ?? '?'} is under way`, fix);
}

async function checkLog({ stateDir }: Situation): Promise<Finding> {
  const { path, lastWord, lastError, startCount } = await readAgentLog(stateDir);
  if (path === null) return skip('there is none');
  if (lastError !== null) return warn(`its last word is an error: ${lastError}`, `Look at ${path}.`);
  const starts = startCount > 1 ? `; ${startCount} welcomes in its last lines` : '';
  return ok(`${lastWord === 'welcomed' ? 'the control plane welcomed the agent' : 'no errors'}${starts}`);
}

async function checkWorkload({ stateDir }: Situation): Promise<Finding> {
  const state = await readOrCode(join(stateDir, 'agent.json'));
  const parsed = 'text' in state ? tryParseJson(state.text) : undefined;
  const wanted = typeof parsed === 'object' && parsed !== null && 'workloadWanted' in parsed && parsed.workloadWanted;
  const record = await readRunRecord(join(stateDir, 'workload.pid')).catch(() => null);
  const isAlive = record !== null && (await hasEnvironment(record.pid, RUN_VARIABLE, record.runId));
  if (isAlive) return ok(`runs as process ${record.pid}`);
  if (wanted !== true) return skip('none is meant to run');
  return warn('it is meant to run and does not', `Its output is in ${join(stateDir, 'workload.log')}.`);
}

/** Lines of `name=value`. */
function fieldsOf(text: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const at = line.indexOf('=');
      return at <= 0 ? [] : [[line.slice(0, at), line.slice(at + 1, at + 200)]];
    }),
  );
}

async function readOrCode(
  path: string,
  read = (file: string) => readFile(file, 'utf8'),
): Promise<{ readonly text: string } | { readonly code: string }> {
  try {
    return { text: await read(path) };
  } catch (error) {
    return { code: systemErrorCode(error) ?? 'unknown' };
  }
}
