/** How something stands, in words and colour. */
export type Tone = 'good' | 'bad' | 'running';

/** One bar of the timeline. */
export interface Bar {
  readonly label: string;
  readonly offsetMs: number;
  readonly durationMs: number;
  /** Of the sum of all bars, 0 to 1. */
  readonly share: number;
  readonly tone: Tone;
  readonly note: string | null;
}

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns of numbers, from 0. */
  readonly right: readonly number[];
}

/** Something that was found out, and whether it holds. */
export interface Claim {
  readonly text: string;
  readonly ok: boolean;
  readonly detail: string;
}

/** A report as it is laid out, whatever it is about: what HTML and PDF are made from. */
export interface ReportDocument {
  /** What kind of report, such as `Failover test`. */
  readonly kind: string;
  readonly title: string;
  readonly subtitle: string;
  readonly verdict: { readonly tone: Tone; readonly text: string };
  /** The figures that people look for first, at most five. */
  readonly figures: readonly { readonly label: string; readonly value: string }[];
  /** In order; empty parts are left out. */
  readonly bars: readonly Bar[];
  readonly claims: readonly Claim[];
  readonly facts: readonly (readonly [label: string, value: string])[];
  readonly tables: readonly Table[];
  readonly footer: string;
}

/** The last end of all bars, ms; at least 1. Pure. */
export function spanMs(bars: readonly Bar[]): number {
  return bars.reduce((end, { offsetMs, durationMs }) => Math.max(end, offsetMs + durationMs), 1);
}

/** Round times at which the timeline is marked, ms, without 0: about five of them. Pure. */
export function ticksOf(totalMs: number): readonly number[] {
  const rough = totalMs / 5;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((each) => each >= rough) ?? rough;
  const ticks: number[] = [];
  for (let at = step; at <= totalMs; at += step) ticks.push(at);
  return ticks;
}

/** `12.3 %`. Pure. */
export function formatShare(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
