import { assertNever } from '@dumont/shared/util/assert.ts';
import { endurance, patience, type CommitDelays, type MachineOpinion, type SuspicionKnobs } from './suspicion.ts';
import type { Evidence } from './verdict.ts';
import type { WatchEvent, WatchState } from './watch-state.ts';
import { PENDING_MS, type WitnessWord } from './witness.ts';

/**
 * The next event of a watched instance that time and evidence justify now, null when nothing is due. Pure; the caller
 * applies it to WATCH_TABLE and asks again until null.
 */
export function nextWatchEvent(view: WatchView): WatchEvent | null {
  if (view.state === 'committed') return null;
  if (isHardNow(view)) return 'hard';
  if (view.restarting) return null;
  switch (view.state) {
    case 'grace':
      return view.graceOver ? 'settled' : null;
    case 'alive': {
      const { suspectAfterMs } = patience(view.expectedGapMs, view.awareness, view.knobs);
      return view.silenceMs >= suspectAfterMs ? 'overdue' : null;
    }
    case 'suspect':
      return view.silenceMs >= confirmAfterMs(view) ? 'unrefuted' : null;
    case 'confirmed':
      return view.silenceMs >= currentEndurance(view).commitAfterMs ? 'outlasted' : null;
    default:
      return assertNever(view.state);
  }
}

/** Everything a judgement depends on. */
export interface WatchView {
  readonly state: WatchState;
  /** Listening time since the last sign of life, ms. */
  readonly silenceMs: number;
  readonly graceOver: boolean;
  /** From the last beat to the expected next one, ms. */
  readonly expectedGapMs: number;
  readonly delays: CommitDelays;
  readonly awareness: number;
  readonly knobs: SuspicionKnobs;
  /** The newest second opinion about this silence, null while there is none. */
  readonly opinion: Opinion | null;
  /** What its standby says of this silence. */
  readonly witness: WitnessWord;
  /** The agent's connection ended without a goodbye and it has not come back. */
  readonly abruptlyClosed: boolean;
  /** Its agent announced a restart a moment ago. */
  readonly restarting: boolean;
  /** A person or a provider's notice said so. */
  readonly injectedHard: boolean;
}

/** What one round of asking others came to. */
export interface Opinion {
  /** At least one hard piece of evidence: the machine is gone. */
  readonly hard: boolean;
  readonly machine: MachineOpinion;
}

/** Pure. Nobody asked, or nobody answering for the machine, is `unknown`, which is not the same as a silent machine. */
export function opinionOf(found: readonly Evidence[]): Opinion {
  const has = (kind: Evidence['kind']) => found.some((evidence) => evidence.kind === kind);
  const hard = found.some((evidence) => evidence.hard);
  if (has('probe-answered')) return { hard, machine: 'answered' };
  // The provider looks from another side than we.
  if (has('provider-unreachable')) return { hard, machine: 'lost' };
  return { hard, machine: has('probe-silent') ? 'silent' : 'unknown' };
}

/**
 * Hard findings of a second opinion count once the instance is suspect, or at once when its connection broke: a machine
 * whose beats still flow is not dead because one port of it was closed for a moment.
 */
function isHardNow(view: WatchView): boolean {
  if (view.injectedHard) return true;
  if (view.opinion === null || !view.opinion.hard) return false;
  return view.abruptlyClosed || view.state === 'suspect' || view.state === 'confirmed';
}

function currentEndurance(view: WatchView) {
  return endurance(view.delays, view.awareness, machineOpinion(view));
}

/** Our own look at the machine and its standby's together. Pure. */
export function machineOpinion({ opinion, witness }: Pick<WatchView, 'opinion' | 'witness'>): MachineOpinion {
  const machine = opinion?.machine ?? 'unknown';
  if (witness === 'hears') return 'heard';
  if (witness === 'lost' && machine !== 'answered') return 'lost';
  return machine;
}

/** A standby that listens and may still prove us wrong gets a moment to do so. */
function confirmAfterMs(view: WatchView): number {
  const atMs = currentEndurance(view).confirmAfterMs;
  if (view.witness !== 'pending') return atMs;
  const { suspectAfterMs } = patience(view.expectedGapMs, view.awareness, view.knobs);
  return Math.max(atMs, suspectAfterMs + PENDING_MS);
}
