import type { Database } from '@dumont/control-plane/store/database.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Accepted } from './sim-fleet.ts';
import type { SimMachine } from './sim-machine.ts';

/** What became of a workspace, held against what is promised. */
export interface Outcome {
  readonly problems: readonly string[];
  /** Time in which two machines had writes accepted, each for itself, ms. */
  readonly doubleWriterMs: number;
}

/** Looks at the store's own rows and at everything that was ever accepted. */
export async function brokenPromises(
  db: Database,
  facts: {
    readonly workspaceId: WorkspaceId;
    readonly machines: readonly SimMachine[];
    readonly accepted: readonly Accepted[];
  },
): Promise<Outcome> {
  const { workspaceId, machines } = facts;
  const mine = new Map(
    machines.filter(({ assignment }) => assignment?.workspaceId === workspaceId).map((one) => [one.ref, one]),
  );
  const accepted = facts.accepted.filter(({ machine }) => mine.has(machine));
  const doubleWriterMs = overlapMs(accepted);
  const problems = [
    ...(await brokenEpochs(db, workspaceId)),
    ...(await brokenCommits(db, workspaceId)),
    ...(await brokenMemory(db, workspaceId, { mine, accepted })),
  ];
  if (doubleWriterMs > 0) problems.push(`two writers for ${doubleWriterMs.toFixed(0)} ms`);
  return { doubleWriterMs, problems: problems.map((problem) => `${workspaceId}: ${problem}`) };
}

/** An epoch belongs to one machine for ever. */
async function brokenEpochs(db: Database, workspaceId: WorkspaceId): Promise<readonly string[]> {
  const rows = await db.query(
    `select epoch from instances where workspace_id = $1 and epoch is not null group by epoch having count(*) > 1`,
    [workspaceId],
  );
  return rows.map((row) => `epoch ${String(row['epoch'])} had two primaries`);
}

/** Snapshots follow one another with rising epochs, each by the primary of its epoch. */
async function brokenCommits(db: Database, workspaceId: WorkspaceId): Promise<readonly string[]> {
  const rows = await db.query(
    `select s.seq, s.epoch, i.epoch as held from snapshots s join instances i on i.id = s.instance_id
     where s.workspace_id = $1 order by s.seq`,
    [workspaceId],
  );
  const problems: string[] = [];
  let highest = 0;
  for (const row of rows) {
    const [epoch, held] = [Number(row['epoch']), Number(row['held'])];
    if (epoch < highest) problems.push(`a snapshot of epoch ${epoch} came after one of ${highest}`);
    if (epoch !== held) problems.push(`a snapshot of epoch ${epoch} is by the primary of epoch ${held}`);
    highest = Math.max(highest, epoch);
  }
  return problems;
}

/** What the control plane or a standby that took over had confirmed is there in the end. */
async function brokenMemory(
  db: Database,
  workspaceId: WorkspaceId,
  facts: { readonly mine: ReadonlyMap<string, SimMachine>; readonly accepted: readonly Accepted[] },
): Promise<readonly string[]> {
  const [row] = await db.query('select primary_instance_id from workspaces where id = $1', [workspaceId]);
  const machines = [...facts.mine.values()];
  const last = machines.find(({ instanceId }) => instanceId === row?.['primary_instance_id']);
  if (last === undefined) return ['nobody is primary in the end'];
  const kept = new Set(last.content);
  const takeovers = await db.query(
    `select instance_id from events where workspace_id = $1 and type = 'workspace.on-standby'`,
    [workspaceId],
  );
  const tookOver = new Set(takeovers.map((event) => event['instance_id']));
  const problems: string[] = [];
  for (const { by, content, machine, epoch, receiver } of facts.accepted) {
    const standby = receiver === null ? undefined : facts.mine.get(receiver);
    // A standby that was harmed itself may have been lost with what it had: that is what RPO is about.
    const counts =
      by === 'control plane' || (standby !== undefined && !standby.harmed && tookOver.has(standby.instanceId));
    const lost = counts ? content.filter((write) => !kept.has(write)).length : 0;
    if (lost > 0) problems.push(`${lost} writes of ${machine} at epoch ${epoch} are lost that the ${by} had confirmed`);
  }
  return problems.slice(-1);
}

/** The longest time in which two machines had writes accepted. */
function overlapMs(accepted: readonly Accepted[]): number {
  const spans = new Map<string, { from: number; to: number }>();
  for (const { machine, atMs } of accepted) {
    const span = spans.get(machine) ?? { from: atMs, to: atMs };
    spans.set(machine, { from: Math.min(span.from, atMs), to: Math.max(span.to, atMs) });
  }
  let most = 0;
  const all = [...spans.values()];
  for (const [index, one] of all.entries()) {
    for (const other of all.slice(index + 1)) {
      most = Math.max(most, Math.min(one.to, other.to) - Math.max(one.from, other.from));
    }
  }
  return most;
}
