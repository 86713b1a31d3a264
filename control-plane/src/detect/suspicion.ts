import { assertNever } from '@dumont/shared/util/assert.ts';

/**
 * How long a silence is borne, in ms since the last sign of life. With `gap` the time from the last beat to the expected
 * next one (see arrival.ts) and `a` the control plane's doubt in itself (see awareness.ts):
 *
 *   probeAfter   = max(probeFloorMs,   gap + probeAlphaMs)   × (1 + a)
 *   suspectAfter = max(suspectFloorMs, gap + suspectAlphaMs) × (1 + a)
 *
 * With beats on time gap = interval, so `STANDARD_KNOBS` give 350 ms and 600 ms: a probe of 250 ms is back exactly when
 * the suspicion falls due, and one sweep later the death is confirmed.
 */
export function patience(expectedGapMs: number, awareness: number, knobs: SuspicionKnobs): Patience {
  const factor = 1 + awareness;
  return {
    probeAfterMs: Math.max(knobs.probeFloorMs, expectedGapMs + knobs.probeAlphaMs) * factor,
    suspectAfterMs: Math.max(knobs.suspectFloorMs, expectedGapMs + knobs.suspectAlphaMs) * factor,
  };
}

export interface Patience {
  /** From here on a second opinion is asked for, quietly. */
  readonly probeAfterMs: number;
  /** From here on the instance is suspect. */
  readonly suspectAfterMs: number;
}

/**
 * How long mere silence is borne after a suspicion, in ms since the last sign of life, from the mode's delays (`d` where
 * two vantage points agree, `l` where the control plane is alone) and what others say of the machine:
 *
 *   lost      a second vantage point lost it too:  confirm at once,         commit at d × (1 + a)
 *   silent    it does not answer us, none other:   confirm at once,         commit at l × (1 + a)
 *   answered  it answers us; unknown: nobody says: confirm at d × (1 + a),  commit at 2d × (1 + a)
 *   heard     its standby hears it:                confirm at 2d × (1 + a), commit at max(30 s, 2d) × (1 + a)
 *
 * A machine that answers while its agent is silent may only be restarting the agent. One that its standby hears is fine
 * but cut off from us: it keeps its work through any outage that ends soon. Yet whom neither the control plane nor its
 * gateway reaches is of no use to its users, so that ends too.
 */
export function endurance(delays: CommitDelays, awareness: number, machine: MachineOpinion): Endurance {
  const factor = 1 + awareness;
  const agreedMs = delays.agreedMs * factor;
  switch (machine) {
    case 'lost':
      return { confirmAfterMs: 0, commitAfterMs: agreedMs };
    case 'silent':
      return { confirmAfterMs: 0, commitAfterMs: delays.loneMs * factor };
    case 'answered':
    case 'unknown':
      return { confirmAfterMs: agreedMs, commitAfterMs: 2 * agreedMs };
    case 'heard':
      return { confirmAfterMs: 2 * agreedMs, commitAfterMs: Math.max(HEARD_COMMIT_MS * factor, 2 * agreedMs) };
    default:
      return assertNever(machine);
  }
}

/** Longer than all but one in ten thousand outages of a path; users who reach nothing have given up by then. */
const HEARD_COMMIT_MS = 30_000;

/** How long a silence lasts before it is final, ms since the last sign of life. */
export interface CommitDelays {
  /** Where a second vantage point lost the machine too. */
  readonly agreedMs: number;
  /** Where the control plane alone did. */
  readonly loneMs: number;
}

/** What others say of the machine itself, apart from hard evidence. */
export type MachineOpinion = 'lost' | 'silent' | 'answered' | 'unknown' | 'heard';

export interface Endurance {
  readonly confirmAfterMs: number;
  readonly commitAfterMs: number;
}

export interface SuspicionKnobs {
  /** Period of the beats where `watch` names none, ms. */
  readonly intervalMs: number;
  /** No suspicion earlier, however regular the beats were, ms. Beats closer than this never raise one. */
  readonly suspectFloorMs: number;
  /** Safety margin over the expected arrival (α of NFD-E), ms; also the clamp of late beats. */
  readonly suspectAlphaMs: number;
  readonly probeFloorMs: number;
  readonly probeAlphaMs: number;
  /** Time-box of one second opinion, ms. */
  readonly probeTimeoutMs: number;
  /** Between two second opinions about the same silence, ms. */
  readonly recheckEveryMs: number;
  /** The same while the connection is broken but the suspicion is not due yet: a machine dies piece by piece. */
  readonly recheckBrokenEveryMs: number;
}

/** For beats every 200 ms: suspect at 600 ms, confirmed well within a second. */
export const STANDARD_KNOBS: SuspicionKnobs = {
  intervalMs: 200,
  suspectFloorMs: 500,
  suspectAlphaMs: 400,
  probeFloorMs: 300,
  probeAlphaMs: 150,
  probeTimeoutMs: 250,
  recheckEveryMs: 1_000,
  recheckBrokenEveryMs: 60,
};

/** For far or overloaded hosts: a second slower, with about a tenth of the mistakes. */
export const TOLERANT_KNOBS: SuspicionKnobs = {
  ...STANDARD_KNOBS,
  suspectFloorMs: 1_200,
  suspectAlphaMs: 1_200,
  probeFloorMs: 800,
  probeAlphaMs: 700,
  probeTimeoutMs: 500,
};
