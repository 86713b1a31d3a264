import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { Answer, CopySeen } from './observer.ts';
import type { Tick } from './ticks.ts';

/** Wall times are whole milliseconds at some places and not at others. */
const ROUNDING_MS = 2;

/** What is known of one run, from outside the machines. Machines by their reference; times by this computer's wall clock. */
export interface Evidence {
  readonly primary: string;
  readonly standby: string | null;
  /** The machine that serves in the end. */
  readonly successor: string;
  readonly faultAtMs: number;
  /** Everything that was ever written, by machine. */
  readonly written: ReadonlyMap<string, readonly Tick[]>;
  /** The history that the workspace has in the end. */
  readonly surviving: readonly Tick[];
  readonly copies: readonly CopySeen[];
  readonly answers: readonly Answer[];
  /** Accepted by the control plane, in order. */
  readonly commits: readonly { readonly machine: string; readonly epoch: number; readonly atMs: number }[];
  /** The failover that moved the workspace; null where none did. */
  readonly report: Pick<FailoverReport, 'silenceBeganAtMs' | 'rpoMs'> | null;
  readonly standbyTookOver: boolean;
}

/** What a fault cost. */
export interface Figures {
  /** Fault → a user is answered by another machine; null where none was. */
  readonly takeoverMs: number | null;
  /** Age at the fault of the oldest write that the workspace does not have in the end; 0 when nothing is missing. */
  readonly lossMs: number;
  readonly lossBytes: number;
  /** Time in which two machines had writes accepted, each for itself. */
  readonly doubleWriterMs: number;
  /** Promises that were broken. */
  readonly problems: readonly string[];
}

/** Holds what happened against what is promised. Pure. */
export function judge(evidence: Evidence): Figures {
  const { primary, successor, answers, faultAtMs } = evidence;
  const doubleWriterMs = overlapMs(acceptedTimes(evidence));
  const problems: string[] = [...brokenHistory(evidence.surviving), ...brokenAuthority(evidence.commits)];
  if (doubleWriterMs > 0) problems.push(`two writers for ${doubleWriterMs.toFixed(0)} ms`);
  const order = answers.map(({ machine }) => machine);
  if (runsOf(order).length > new Set(order).size) problems.push('users were led back to a machine that was left');
  const { lossMs, lossBytes, lost } = lossOf(evidence);
  problems.push(...brokenLoss(evidence, lost));
  const away = answers.find(({ machine, atMs }) => machine !== primary && atMs >= faultAtMs);
  const takeoverMs = successor === primary || away === undefined ? null : away.atMs - faultAtMs;
  return { takeoverMs, lossMs, lossBytes, doubleWriterMs, problems };
}

/** When writes of each machine were accepted: by the control plane, by the standby, by the history that is left. */
function acceptedTimes({ surviving, commits, copies }: Evidence): ReadonlyMap<string, readonly number[]> {
  const times = new Map<string, number[]>();
  const accept = (machine: string, atMs: number) => times.set(machine, [...(times.get(machine) ?? []), atMs]);
  const ends = runsOf(surviving.map(({ machine }) => machine));
  for (const { from, to } of ends) {
    for (const tick of [surviving[from], surviving[to]]) if (tick !== undefined) accept(tick.machine, tick.wallMs);
  }
  for (const { machine, atMs } of commits) accept(machine, atMs);
  // It came between two looks: the earlier one, so that a look that was late accuses nobody.
  for (const { tick, afterMs } of copies) accept(tick.machine, Math.max(tick.wallMs, afterMs));
  return times;
}

/** The longest time in which two of them had writes accepted. */
function overlapMs(times: ReadonlyMap<string, readonly number[]>): number {
  const spans = [...times.values()].map((each) => ({
    from: each.reduce((a, b) => Math.min(a, b)),
    to: each.reduce((a, b) => Math.max(a, b)),
  }));
  let most = 0;
  for (const [index, one] of spans.entries()) {
    for (const other of spans.slice(index + 1)) {
      most = Math.max(most, Math.min(one.to, other.to) - Math.max(one.from, other.from));
    }
  }
  return most <= ROUNDING_MS ? 0 : most;
}

/** One writer after another, no number twice and none left out. */
function brokenHistory(surviving: readonly Tick[]): readonly string[] {
  const problems: string[] = [];
  const machines = surviving.map(({ machine }) => machine);
  if (runsOf(machines).length > new Set(machines).size) problems.push('writes of two machines are mixed');
  const gap = surviving.findIndex(({ count }, index) => count !== index + 1);
  if (gap !== -1) problems.push(`the history is broken at write ${gap + 1}`);
  return problems;
}

function brokenAuthority(commits: Evidence['commits']): readonly string[] {
  const problems: string[] = [];
  const holders = new Map<number, string>();
  let epoch = 0;
  for (const commit of commits) {
    if (commit.epoch < epoch) problems.push(`a snapshot of epoch ${commit.epoch} was accepted after epoch ${epoch}`);
    epoch = Math.max(epoch, commit.epoch);
    const holder = holders.get(commit.epoch) ?? commit.machine;
    if (holder !== commit.machine) problems.push(`two machines published at epoch ${commit.epoch}`);
    holders.set(commit.epoch, holder);
  }
  return problems;
}

function lossOf({ written, surviving, primary, faultAtMs }: Evidence) {
  const kept = new Set(surviving.map(({ count, machine }) => `${count} ${machine}`));
  const lost = (written.get(primary) ?? []).filter(({ count, machine }) => !kept.has(`${count} ${machine}`));
  // What a machine wrote that was cut off afterwards is nobody's history; a branch keeps it where it comes back.
  const before = lost.filter(({ wallMs }) => wallMs <= faultAtMs);
  const [oldest] = before;
  const lossBytes = before.reduce((sum, { bytes }) => sum + bytes, 0);
  return { lost, lossBytes, lossMs: oldest === undefined ? 0 : faultAtMs - oldest.wallMs };
}

function brokenLoss(evidence: Evidence, lost: readonly Tick[]): readonly string[] {
  const { report, copies, standbyTookOver, primary, standby, surviving } = evidence;
  const [oldest] = lost;
  const problems: string[] = [];
  if (report === null) {
    if (oldest !== undefined) problems.push('writes are lost without a failover');
    return problems;
  }
  const promisedMs = report.silenceBeganAtMs - (report.rpoMs ?? Infinity);
  if (oldest !== undefined && oldest.wallMs < promisedMs - ROUNDING_MS) {
    const { count, wallMs } = oldest;
    problems.push(
      `write ${count} is lost, ${(promisedMs - wallMs).toFixed(0)} ms older than the RPO that was reported`,
    );
  }
  const held = copies.findLast(({ tick }) => tick.machine === primary)?.tick;
  const isThere = held === undefined || surviving[held.count - 1]?.machine === primary;
  if (standby !== null && standbyTookOver && !isThere) {
    problems.push(`write ${held.count} was on the standby and is lost`);
  }
  return problems;
}

/** Stretches of equal neighbours, by index, both ends inclusive. */
function runsOf(values: readonly string[]): readonly { readonly from: number; readonly to: number }[] {
  const runs: { from: number; to: number }[] = [];
  for (const [index, value] of values.entries()) {
    const last = runs.at(-1);
    if (last !== undefined && values[last.from] === value) last.to = index;
    else runs.push({ from: index, to: index });
  }
  return runs;
}
