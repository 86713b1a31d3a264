import type { Simulation } from '@dumont/shared/api/simulation.ts';
import { SIMULATED_PHASES } from '@dumont/shared/api/simulation.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Queryable } from '../store/database.ts';
import { listOperations } from '../store/operations.ts';
import { listSteps } from '../store/steps.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { failoverDataSchema } from './failover.ts';

type Phase = (typeof SIMULATED_PHASES)[number];
type Expected = Simulation['phases'][number];

/** The newest are looked at; markets and workspaces change. */
const MAX_HISTORY = 20;
/** Fewer say little: then those of all workspaces count. */
const MIN_SAMPLES = 3;

/**
 * Without history. Detection: silence of some beats of 200 ms. A search: one answer of a marketplace. Provisioning: 72.8 s
 * until a rented machine ran and 12.4 s more until it could be reached, in a run on Vast.ai.
 */
const ASSUMED_MS = { detect: 700, search: 1_000, provision: 85_200, commit: 100, resume: 1_000, switch: 100 } as const;
/** A restore is assumed to begin within a second and to fetch at half a gigabit. */
const ASSUMED_RESTORE = { startMs: 1_000, bytesPerMs: 62_500 } as const;

const STEP_OF: Readonly<Record<Exclude<Phase, 'detect'>, string>> = {
  search: 'searching',
  provision: 'provisioning',
  restore: 'restoring',
  commit: 'committing',
  resume: 'resuming',
  switch: 'switching',
};

/**
 * How long each phase of a failover would take: the median of this workspace's own completed failovers, with fewer than
 * three of those of all workspaces, with fewer again an assumption.
 */
export async function expectPhases(
  db: Queryable,
  { workspace, restoreBytes }: { readonly workspace: Pick<WorkspaceRow, 'id'>; readonly restoreBytes: number },
): Promise<Expected[]> {
  const own = await historyOf(db, workspace.id);
  const all = own.length >= MIN_SAMPLES ? [] : await historyOf(db, undefined);
  return SIMULATED_PHASES.map((phase) => {
    const mine = samples(own, phase);
    if (mine.length >= MIN_SAMPLES) return from(phase, 'workspace', mine);
    const theirs = samples(all, phase);
    if (theirs.length >= MIN_SAMPLES) return from(phase, 'installation', theirs);
    return { phase, expectedMs: assumedMs(phase, restoreBytes), basis: 'assumed', samples: 0 };
  });
}

type History = readonly Partial<Record<Phase, number>>[];

async function historyOf(db: Queryable, workspaceId: WorkspaceId | undefined): Promise<History> {
  const rows = await listOperations(db, { kind: 'failover', workspaceId, state: 'completed', limit: MAX_HISTORY });
  const history: Partial<Record<Phase, number>>[] = [];
  for (const row of rows) {
    const steps = await listSteps(db, row.id);
    const data = failoverDataSchema.safeParse(row.data);
    const phases: Partial<Record<Phase, number>> = {};
    // An operator's move is not detected.
    if (data.success && data.data.trigger === 'detector') phases.detect = data.data.detectMs;
    for (const phase of SIMULATED_PHASES) {
      if (phase === 'detect') continue;
      const own = steps.filter(({ step, durationMs }) => step === STEP_OF[phase] && durationMs !== null);
      if (own.length > 0) phases[phase] = own.reduce((sum, { durationMs }) => sum + (durationMs ?? 0), 0);
    }
    history.push(phases);
  }
  return history;
}

function samples(history: History, phase: Phase): readonly number[] {
  return history.flatMap((phases) => phases[phase] ?? []);
}

function from(phase: Phase, basis: 'workspace' | 'installation', values: readonly number[]): Expected {
  return { phase, expectedMs: Math.round(median(values)), basis, samples: values.length };
}

function assumedMs(phase: Phase, restoreBytes: number): number {
  if (phase !== 'restore') return ASSUMED_MS[phase];
  return Math.round(ASSUMED_RESTORE.startMs + restoreBytes / ASSUMED_RESTORE.bytesPerMs);
}

/** Of at least one value. */
function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
