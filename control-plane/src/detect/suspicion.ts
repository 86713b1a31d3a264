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
 * How long mere silence is borne after a suspicion, in ms since the last sign of life, from the mode's delay `d`
 * (COMMIT_DELAY_MS) and what the second opinion said:
 *
 *   machine silent too:                confirm at once,        commit at d × (1 + a)
 *   machine answers, or nobody knows:  confirm at d × (1 + a), commit at 2d × (1 + a)
 *
 * A machine that answers while its agent is silent may only be restarting the agent.
 */
export function endurance(modeDelayMs: number, awareness: number, machine: MachineOpinion): Endurance {
  const delayMs = modeDelayMs * (1 + awareness);
  if (machine === 'silent') return { confirmAfterMs: 0, commitAfterMs: delayMs };
  return { confirmAfterMs: delayMs, commitAfterMs: 2 * delayMs };
}

/** What a second opinion says of the machine itself, apart from hard evidence. */
export type MachineOpinion = 'silent' | 'answered' | 'unknown';

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
