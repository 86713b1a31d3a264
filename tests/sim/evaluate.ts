import type { DetectMode } from '@dumont/shared/model/policy.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { PROFILES, type ProfileName } from './host-model.ts';
import { simulateControlPlane, type ControlPlaneTrouble } from './simulate-control-plane.ts';
import { simulateDeath, simulateHost, type HostSetup, type Mistakes } from './simulate-host.ts';

export interface Evaluation {
  readonly seed: number;
  readonly rows: readonly Row[];
  readonly controlPlane: readonly (ControlPlaneTrouble & { readonly mode: DetectMode })[];
}

/** How good the detector is in one mode on one kind of host; the measures of Chen, Toueg and Aguilera. */
export interface Row {
  readonly profile: ProfileName;
  readonly mode: DetectMode;
  readonly hasStandby: boolean;
  readonly hostDays: number;
  /** T_D of deaths without a word, and of those with hard evidence, ms since the death. */
  readonly suspectMs: Spread;
  readonly confirmMs: Spread;
  readonly commitMs: Spread;
  readonly hardMs: Spread;
  /** lambda_M: suspicions of a living host. */
  readonly mistakesPerMonth: number;
  /** T_M: how long such a suspicion stands. */
  readonly mistakeMs: number;
  /** P_A: how much of the time a living host is trusted. */
  readonly queryAccuracy: number;
  /** Failovers begun and taken back. */
  readonly avertedPerMonth: number;
  readonly falseCommitsPerMonth: number;
}

export interface Spread {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Days of one host before another takes its place; `adaptive` learns within them. */
const DAYS_OF_A_HOST = 30;
const CYCLES = 60;

/** Every mode on every kind of host, with and without a standby. Deterministic by the seed. */
export async function evaluate(options: {
  readonly seed: number;
  readonly days: number;
  readonly deaths: number;
  readonly profiles: readonly ProfileName[];
  readonly modes: readonly DetectMode[];
}): Promise<Evaluation> {
  const { seed, days, deaths } = options;
  const rows: Row[] = [];
  for (const profile of options.profiles) {
    for (const mode of options.modes) {
      for (const hasStandby of [true, false]) {
        const setup = { profile: PROFILES[profile], mode, hasStandby };
        const random = seededRandom(seed);
        const mistakes = await simulateHosts(setup, random, days);
        const silent = [];
        const refusing = [];
        for (let death = 0; death < deaths; death += 1) {
          silent.push(await simulateDeath(setup, 'silent', random));
          refusing.push(await simulateDeath(setup, 'refusing', random));
        }
        rows.push({
          profile,
          mode,
          hasStandby,
          ...ratesOf(mistakes),
          suspectMs: spread(silent.map(({ suspectMs }) => suspectMs)),
          confirmMs: spread(silent.map(({ confirmMs }) => confirmMs)),
          commitMs: spread(silent.map(({ commitMs }) => commitMs)),
          hardMs: spread(refusing.map(({ commitMs }) => commitMs)),
        });
      }
    }
  }
  const controlPlane = [];
  for (const mode of options.modes) {
    controlPlane.push({ mode, ...(await simulateControlPlane(mode, seededRandom(seed), CYCLES)) });
  }
  return { seed, rows, controlPlane };
}

async function simulateHosts(
  setup: HostSetup,
  random: ReturnType<typeof seededRandom>,
  days: number,
): Promise<Mistakes> {
  const sum: Mistakes = { hostDays: 0, suspects: 0, confirms: 0, commits: 0, wrongMs: 0 };
  for (let left = days; left > 0; left -= DAYS_OF_A_HOST) {
    const part = await simulateHost(setup, random, Math.min(left, DAYS_OF_A_HOST));
    for (const key of ['hostDays', 'suspects', 'confirms', 'commits', 'wrongMs'] as const) sum[key] += part[key];
  }
  return sum;
}

function ratesOf({ hostDays, suspects, confirms, commits, wrongMs }: Mistakes) {
  const months = hostDays / 30;
  return {
    hostDays,
    mistakesPerMonth: suspects / months,
    mistakeMs: suspects === 0 ? 0 : wrongMs / suspects,
    queryAccuracy: 1 - wrongMs / (hostDays * 86_400_000),
    avertedPerMonth: (confirms - commits) / months,
    falseCommitsPerMonth: commits / months,
  };
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
