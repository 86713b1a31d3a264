import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { InstanceView } from '@dumont/shared/api/views.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { eventually } from '../../world/eventually.ts';
import type { ChaosCase } from './cases.ts';
import { judge, type Evidence, type Figures } from './judge.ts';
import { Observer } from './observer.ts';
import { Stage } from './stage.ts';
import { lastTickIn, ticksIn, ticksOutside } from './ticks.ts';

/** A failover that begins when the standby hears the machine takes half a minute until it is committed. */
const FAILOVER_MS = 90_000;
const WORK_MS = 15_000;
/** Longer than the slowest mode of these cases takes to give a machine up. */
const CALM_MS = 4_000;
/** So that there is a history before the fault. */
const WARM_UP_MS = 700;

export interface CaseResult extends Figures {
  readonly name: string;
  readonly fault: string;
  /** Fault → loss confirmed; null where none was. */
  readonly detectMs: number | null;
  /** `standby`: users were sent there first. `snapshot`: the work went on from the last one. */
  readonly outcome: 'standby' | 'snapshot' | 'none' | 'averted' | 'failed';
  readonly durationMs: number;
}

/** Plays one case on an installation of its own. Never rejects: what went wrong is among the problems. */
export async function runCase(chaosCase: ChaosCase): Promise<CaseResult> {
  const startedMs = systemClock.monotonicMs();
  const { name, fault } = chaosCase;
  const about = () => ({ name, fault, durationMs: systemClock.monotonicMs() - startedMs });
  try {
    await using stage = await Stage.set(chaosCase.setting ?? {});
    const result = await play(chaosCase, stage);
    return { ...result, ...about() };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const nothing = { detectMs: null, takeoverMs: null, lossMs: 0, lossBytes: 0, doubleWriterMs: 0 };
    return { ...about(), ...nothing, outcome: 'failed', problems: [message] };
  }
}

async function play(chaosCase: ChaosCase, stage: Stage): Promise<Omit<CaseResult, 'name' | 'fault' | 'durationMs'>> {
  const { workspace, standby } = stage;
  await stage.writeSafely();
  const standbyFolder = standby === null ? null : workspace.workspaceFolder(standby);
  const observer = new Observer({ gatewayUrl: await stage.gatewayUrl(), standbyFolder });
  await using watching = observer;
  await systemClock.sleep(WARM_UP_MS);
  const faultAtMs = systemClock.nowMs();
  await chaosCase.inject(stage);
  const report =
    chaosCase.expects === 'failover' ? await workspace.failoverOver(1, FAILOVER_MS) : await calm(chaosCase, stage);
  const primary = await workspace.primary();
  const problems = [
    ...(await expectationsMissed(chaosCase, stage, { primary, report })),
    ...(await worksOn(stage, primary)),
  ];
  await watching[Symbol.asyncDispose]();
  const figures = judge(await gather(stage, { observer, primary, report, faultAtMs }));
  problems.push(...figures.problems, ...(await stage.end()));
  const confirmedAtMs = report === null ? null : report.silenceBeganAtMs + report.detectMs;
  const detectMs = confirmedAtMs === null ? null : confirmedAtMs - faultAtMs;
  return { ...figures, detectMs, outcome: outcomeOf(report), problems };
}

/** Nothing comes of it; a failover that was begun is waited for, because it must be taken back. */
async function calm({ calmMs = CALM_MS }: ChaosCase, { workspace }: Stage): Promise<FailoverReport | null> {
  await systemClock.sleep(calmMs);
  const begun = (await workspace.failovers()).length;
  return begun === 0 ? null : workspace.failoverOver(begun, FAILOVER_MS);
}

async function expectationsMissed(
  { expects }: ChaosCase,
  { workspace, primary: before }: Stage,
  { primary, report }: { readonly primary: InstanceView; readonly report: FailoverReport | null },
): Promise<readonly string[]> {
  const isSame = primary.instanceId === before.instanceId;
  if (expects === 'failover') {
    if (report?.state === 'completed' && report.success === true && !isSame) return [];
    return [`a failover was expected; it ended ${report?.state ?? 'before it began'}: ${report?.error ?? 'no error'}`];
  }
  const { epoch } = await workspace.view();
  return isSame && epoch === 1
    ? []
    : [`nothing was expected to move, but it is epoch ${epoch}: ${report?.reason ?? ''}`];
}

/** The work goes on where the workspace is now, what was acknowledged is there, and it can be saved. */
async function worksOn({ workspace }: Stage, primary: InstanceView): Promise<readonly string[]> {
  const problems: string[] = [];
  const folder = workspace.workspaceFolder(primary);
  const before = (await lastTickIn(folder))?.count ?? 0;
  const goesOn = async () => ((await lastTickIn(folder))?.count ?? 0) > before;
  await eventually('the work goes on', goesOn, WORK_MS).catch(() => problems.push('the work does not go on'));
  const isSaved = () =>
    workspace.writeSafely('after.txt', 'saved after the fault').then(
      () => true,
      () => false,
    );
  await eventually('it can be saved', isSaved, WORK_MS).catch(() => problems.push('it cannot be saved'));
  const kept = (await workspace.snapshots())[0];
  if (kept === undefined) return [...problems, 'there is no snapshot'];
  return problems;
}

async function gather(
  stage: Stage,
  seen: {
    readonly observer: Observer;
    readonly primary: InstanceView;
    readonly report: FailoverReport | null;
    readonly faultAtMs: number;
  },
): Promise<Evidence> {
  const { workspace, primary, standby } = stage;
  const { observer, report, faultAtMs } = seen;
  const { items } = await stage.site.client.call('listInstances', {
    query: { workspace: workspace.name, all: 'true' },
  });
  const refs = new Map(items.map(({ instanceId, providerRef }) => [instanceId, providerRef ?? instanceId]));
  // Of its own snapshots the workspace was made from one that no machine took.
  const commits = (await workspace.snapshots()).toReversed().flatMap(({ instanceId, epoch, committedAtMs: atMs }) => {
    return instanceId === null ? [] : [{ machine: refs.get(instanceId) ?? instanceId, epoch, atMs }];
  });
  return {
    primary: stage.refOf(primary),
    standby: standby === null ? null : stage.refOf(standby),
    successor: stage.refOf(seen.primary),
    faultAtMs,
    written: await ticksOutside(stage.evidenceFolder),
    surviving: await ticksIn(workspace.workspaceFolder(seen.primary)),
    copies: observer.copies,
    answers: observer.answers,
    commits,
    report: report?.state === 'completed' ? report : null,
    standbyTookOver: outcomeOf(report) === 'standby',
  };
}

function outcomeOf(report: FailoverReport | null): CaseResult['outcome'] {
  if (report === null) return 'none';
  if (report.state === 'averted') return 'averted';
  if (report.state !== 'completed') return 'failed';
  const tookOver = report.standby !== null && report.standby.outcome !== 'not-used';
  return tookOver ? 'standby' : 'snapshot';
}
