import type { DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { formatDuration } from '@dumont/shared/util/units.ts';
import { probeStore } from '../storage/probe-store.ts';
import { grantFromUrl } from '../storage/store-url.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import type { Situation } from './situation.ts';

/** Several megabytes go there and back over whatever line there is. */
const TIME_LIMIT_MS = 90_000;

export const STORAGE_CHECKS: readonly Check[] = [
  { id: 'storage', title: 'Object storage', timeLimitMs: TIME_LIMIT_MS, run: checkStorage },
];

async function checkStorage(situation: Situation, signal: AbortSignal): Promise<Finding> {
  const grant = grantOf(situation);
  if (grant === null) return skip('the control plane grants it; name a store with --to to try one');
  const { clock } = situation;
  const probe = await probeStore(grant, { clock, random: systemRandom, signal });
  const where = grant.kind === 'file' ? grant.path : `${probe.profile} bucket ${grant.bucket}`;
  const offMs = Math.abs(probe.clockOffsetMs ?? 0);
  const clockNote = offMs < 1_500 ? '' : `; its clock is off by ${formatDuration(offMs)}`;
  const flaws = probe.checks.filter(({ outcome }) => outcome === 'failed' || outcome === 'warning');
  const said = flaws.map(({ name, note }) => `${name}: ${note}`).join('; ');
  const hints = flaws.flatMap(({ hint }) => hint ?? []);
  const fix = hints.length === 0 ? 'dumont-agent probe --store … tells more.' : [...new Set(hints)].join(' ');
  switch (probe.verdict) {
    case 'ready':
      return ok(`${where}: writes, reads, lists and deletes work${clockNote}`);
    case 'limited':
      return warn(`${where}: ${said}${clockNote}`, fix);
    case 'unusable':
      return fail(`${where}: ${said}${clockNote}`, fix);
  }
}

/** The store that `--to` names, else that of the environment. @throws {DumontError} USAGE for a bad address or variables */
function grantOf({ storeUrl, environment }: Situation): DirectGrant | null {
  if (storeUrl !== null) return grantFromUrl(storeUrl, environment);
  const provider = environment['STORAGE_PROVIDER'] ?? '';
  if (provider === '' || provider === 'file') return null;
  const bucket = environment[`${provider.toUpperCase()}_BUCKET`] ?? '';
  return grantFromUrl(`${provider}://${bucket}`, environment);
}
