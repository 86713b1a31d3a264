import type { LossKind } from '@dumont/shared/api/endpoints.ts';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { SnapshotView } from '@dumont/shared/api/views.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { DEMO_SNAPSHOT_INTERVAL_MS, DEMO_WORKSPACE, type DemoSession } from './session.ts';
import { TRAINING_FOLDER } from './stage.ts';
import { accountOf } from './tree-account.ts';
import type { Verification } from './verify-restored.ts';
import { verifyRestored } from './verify-restored.ts';
import { Witness } from './witness.ts';

/** The machine works this long, and publishes this much, before it is lost. */
const LEAST_SNAPSHOTS_WITH_CHECKPOINT = 2;
const RUN_UP_TIMEOUT_MS = 120_000;
const FAILOVER_TIMEOUT_MS = 180_000;
/** The promise of requirement B1: silence begins → confirmed. */
const DETECT_BUDGET_MS = 1_000;
const POLL_MS = 100;

/** The report of the scenario: the failover's own, and what an independent look at the disks says. */
export interface SpotLossReport extends FailoverReport {
  readonly scenario: 'spot-loss';
  readonly loss: LossKind;
  readonly ok: boolean;
  /** One line per broken promise. */
  readonly broken: readonly string[];
  /** Injection of the fault → confirmed, by this process's clock. */
  readonly lossToConfirmMs: number;
  readonly filesVerified: number;
  readonly filesWrong: number;
  readonly bytesRestored: number;
  /** Checkpoint the workload went on from. */
  readonly resumedFromCheckpoint: string | null;
  /** ISO time at which the workload said it went on. */
  readonly workloadResumedAt: string | null;
  readonly stepsRepeated: number;
}

export interface SpotLossOptions {
  readonly session: DemoSession;
  readonly loss: LossKind;
  readonly workspace: string | undefined;
  readonly staging: string;
  /** Keep a standby. */
  readonly standby: boolean;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Runs the main job once: a machine works, is lost, and the work comes back. Leaves the machines to the caller. */
export async function runSpotLoss(options: SpotLossOptions): Promise<SpotLossReport> {
  const { session, loss, say } = options;
  using deadline = new Deadline(systemClock, RUN_UP_TIMEOUT_MS, options.signal);
  const runUp = deadline.signal;
  say('putting a workspace on its first machine');
  const provision = await session.provision(options.workspace, options.staging, options.standby);
  await session.finished(provision.operationId, runUp);
  const primary = await session.primary();
  const folder = session.workspaceFolderOf(primary);
  const original = await accountOf(folder, new Set([TRAINING_FOLDER]));

  let lostAtMs: number;
  const witness = new Witness(folder, systemClock);
  {
    await using _ = witness;
    say('waiting until its work is in snapshots');
    await waitForSnapshots(session, witness, runUp);
    if (options.standby) {
      say('waiting until its standby has everything');
      await waitForStandby(session, runUp);
    }
    // A loss does not wait for a snapshot to be fresh: any moment between two of them is as likely.
    await systemClock.sleep(systemRandom.next() * DEMO_SNAPSHOT_INTERVAL_MS, runUp);
    lostAtMs = systemClock.nowMs();
    say(`losing the machine now: ${loss}`);
    await session.client.call('injectLoss', { params: { instanceId: primary.instanceId }, body: { kind: loss } });
  }
  using recovery = new Deadline(systemClock, FAILOVER_TIMEOUT_MS, options.signal);
  const report = await failoverReport(session, recovery.signal);
  const replacement = await session.primary();
  say('comparing the restored workspace with what had been written');
  const verification = await verifyRestored(session.workspaceFolderOf(replacement), {
    original,
    checkpoints: witness.checkpoints,
    log: witness.log,
    snapshotStartedAtMs: heldUntilMs(report),
  });
  return combine({ loss, report, verification, lossToConfirmMs: report.silenceBeganAtMs + report.detectMs - lostAtMs });
}

/** Until snapshots hold checkpoints that were complete before they began, and the workload has gone on past them. */
async function waitForSnapshots(session: DemoSession, witness: Witness, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { items } = await session.client.call('listSnapshots', { query: { workspace: DEMO_WORKSPACE }, signal });
    if (items.filter((snapshot) => holdsCheckpoint(snapshot, witness)).length >= LEAST_SNAPSHOTS_WITH_CHECKPOINT)
      return;
    await systemClock.sleep(POLL_MS, signal);
  }
}

async function waitForStandby(session: DemoSession, signal: AbortSignal): Promise<void> {
  for (;;) {
    const params = { workspace: DEMO_WORKSPACE };
    const { standby } = await session.client.call('getWorkspace', { params, signal });
    if (standby !== null && standby.behindMs !== null) return;
    await systemClock.sleep(POLL_MS, signal);
  }
}

/** What had been written by then must be there: a standby's copy is as old as its distance. */
function heldUntilMs({ snapshot, standby, silenceBeganAtMs, rpoMs }: FailoverReport): number {
  if (standby?.outcome === 'handed-over') return silenceBeganAtMs - (rpoMs ?? 0);
  return snapshot?.startedAtMs ?? 0;
}

function holdsCheckpoint(snapshot: SnapshotView, witness: Witness): boolean {
  return witness.checkpoints.some(({ completedAtMs }) => completedAtMs < snapshot.startedAtMs);
}

async function failoverReport(session: DemoSession, signal: AbortSignal): Promise<FailoverReport> {
  for (;;) {
    const { items } = await session.client.call('listFailovers', {
      query: { workspace: DEMO_WORKSPACE, limit: 1 },
      signal,
    });
    const [report] = items;
    if (report !== undefined && report.success !== null) {
      if (report.state !== 'averted') return report;
      throw new DumontError('INTERNAL', 'the failover was averted: the machine came back', { hint: 'Run it again.' });
    }
    await systemClock.sleep(POLL_MS, signal);
  }
}

function combine(found: {
  readonly loss: LossKind;
  readonly report: FailoverReport;
  readonly verification: Verification;
  readonly lossToConfirmMs: number;
}): SpotLossReport {
  const { report, verification } = found;
  const broken = [...verification.wrong];
  if (report.success !== true) broken.push(`the failover ended ${report.state}: ${report.error ?? 'no reason given'}`);
  if (report.detectMs >= DETECT_BUDGET_MS)
    broken.push(`detection took ${report.detectMs} ms, promised below ${DETECT_BUDGET_MS}`);
  return {
    scenario: 'spot-loss',
    loss: found.loss,
    ok: broken.length === 0,
    broken,
    ...report,
    lossToConfirmMs: Math.round(found.lossToConfirmMs),
    filesVerified: verification.filesVerified,
    filesWrong: verification.wrong.length,
    bytesRestored: report.restore?.bytesWritten ?? 0,
    resumedFromCheckpoint: verification.resumedFrom,
    workloadResumedAt: verification.resumedAtMs === null ? null : new Date(verification.resumedAtMs).toISOString(),
    stepsRepeated: verification.stepsRepeated,
  };
}
