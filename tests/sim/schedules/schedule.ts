import type { Random } from '@dumont/shared/util/random.ts';
import type { OrderFault } from './sim-provider.ts';

/** To one workspace: to whoever is primary, or standby, when it happens. */
export type MachineFault =
  | { readonly kind: 'kill'; readonly says: 'breaks' | 'silent'; readonly lie: 'running' | null }
  | {
      readonly kind: 'freeze' | 'cut-control' | 'cut-sync' | 'cut-both';
      readonly ms: number;
      /** Its provider cannot destroy it until some time after it is back. */
      readonly isKept: boolean;
    }
  | { readonly kind: 'lie-gone'; readonly ms: number };

/** To everybody. */
export type CommonFault =
  | { readonly kind: 'restart'; readonly ms: number }
  | { readonly kind: 'pause'; readonly ms: number }
  | { readonly kind: 'provider-down'; readonly ms: number }
  | { readonly kind: 'orders'; readonly fates: readonly OrderFault[] };

export type Happening =
  | { readonly atMs: number; readonly target: 'primary' | 'standby'; readonly fault: MachineFault }
  | { readonly atMs: number; readonly target: 'operator' };

/** What befalls one workspace, and all together, ms after they were ready. */
export interface Schedule {
  readonly workspaces: readonly (readonly Happening[])[];
  readonly common: readonly { readonly atMs: number; readonly fault: CommonFault }[];
}

/** Faults begin within this time; what passes is over not long after. */
export const TROUBLE_MS = 12_000;
const MAX_FAULTS = 4;
/** From less than a heartbeat to longer than any machine is waited for. */
const LENGTHS_MS = [150, 500, 900, 1_500, 3_500, 7_000, 14_000] as const;

/** Draws what happens to a batch of workspaces that share a control plane. The same random gives the same. */
export function drawSchedule(random: Random, workspaceCount: number): Schedule {
  const workspaces = Array.from({ length: workspaceCount }, () => {
    const count = 1 + Math.floor(random.next() * MAX_FAULTS);
    return Array.from({ length: count }, () => drawHappening(random)).toSorted((a, b) => a.atMs - b.atMs);
  });
  const commonCount = Math.floor(random.next() * 3);
  const common = Array.from({ length: commonCount }, () => ({
    atMs: random.next() * TROUBLE_MS,
    fault: drawCommon(random),
  }));
  return { workspaces, common: common.toSorted((a, b) => a.atMs - b.atMs) };
}

function drawHappening(random: Random): Happening {
  const atMs = random.next() * TROUBLE_MS;
  const share = random.next();
  if (share < 0.08) return { atMs, target: 'operator' };
  const target = share < 0.75 ? 'primary' : 'standby';
  return { atMs, target, fault: drawMachineFault(random) };
}

function drawMachineFault(random: Random): MachineFault {
  const kind = pick(random, ['kill', 'kill', 'freeze', 'cut-control', 'cut-sync', 'cut-both', 'lie-gone'] as const);
  const ms = pick(random, LENGTHS_MS);
  if (kind === 'lie-gone') return { kind, ms };
  if (kind !== 'kill') return { kind, ms, isKept: random.next() < 0.5 };
  const lie = random.next() < 0.25 ? 'running' : null;
  return { kind, says: pick(random, ['breaks', 'silent'] as const), lie };
}

function drawCommon(random: Random): CommonFault {
  const kind = pick(random, ['restart', 'pause', 'provider-down', 'orders'] as const);
  if (kind !== 'orders') return { kind, ms: 300 + random.next() * 3_000 };
  const fates = ['refused', 'offer-gone', 'throws', 'lost-answer'] as const;
  return { kind, fates: Array.from({ length: 1 + Math.floor(random.next() * 6) }, () => pick(random, fates)) };
}

function pick<Value>(random: Random, values: readonly [Value, ...Value[]]): Value {
  return values[Math.floor(random.next() * values.length)] ?? values[0];
}
