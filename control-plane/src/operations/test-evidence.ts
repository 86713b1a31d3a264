import type { StepView } from '@dumont/shared/api/views.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { formatBytes, formatDuration } from '@dumont/shared/util/units.ts';
import type { InstanceRow } from '../store/instances.ts';
import type { FailoverTestData } from './failover-test.ts';

/** Something a test found out: the claim, whether it holds, and what says so. */
export type Claim = readonly [claim: string, ok: boolean, detail: string];

/** How much of a hash is shown: enough to compare by eye. */
const SHOWN_HASH_CHARS = 16;

/** What a test of a provider found, in the order of its steps; steps that were not reached claim nothing. Pure. */
export function providerTestEvidence(steps: readonly StepView[]): readonly Claim[] {
  return steps.flatMap((step) => {
    if (step.outcome === null) return [];
    const claim = PROVIDER_CLAIMS[step.step];
    if (claim === undefined) return [];
    const ok = step.outcome !== 'stepFailed' && step.outcome !== 'cancelled';
    return [[claim.text, ok, claim.detail(step.detail)] as const];
  });
}

type Detail = Readonly<Record<string, unknown>>;

/** By step. Details are read as what they are in the database: anything. */
const PROVIDER_CLAIMS: Readonly<
  Record<string, { readonly text: string; readonly detail: (detail: Detail) => string }>
> = {
  searching: {
    text: 'The provider has offers within the budget',
    detail: ({ offersSeen, offersFitting }) => `${shown(offersFitting)} considered of ${shown(offersSeen)} seen`,
  },
  creating: {
    text: 'A machine can be ordered',
    detail: ({ gpuName, provider, machineId }) => `${shown(gpuName)} at ${shown(provider)}, host ${shown(machineId)}`,
  },
  booting: { text: 'The provider brings it up', detail: ({ ref }) => `reference ${shown(ref)}` },
  reaching: {
    text: 'It is reached from outside, and its agent reaches us',
    detail: ({ address, banner, agentMs }) => {
      const greeting = typeof banner === 'string' ? `${shown(address)} greets with ${banner}` : 'it has no address';
      return `${greeting}; agent after ${typeof agentMs === 'number' ? formatDuration(agentMs) : '–'}`;
    },
  },
  writing: { text: 'Its disk takes a file', detail: fileDetail },
  verifying: { text: 'The file read back is the one written', detail: fileDetail },
  sampling: {
    text: 'nvidia-smi sees the GPUs',
    detail: ({ gpus, driver, error }) => {
      if (!Array.isArray(gpus) || gpus.length === 0) return shown(error ?? 'none');
      return `${gpus.join(', ')}${typeof driver === 'string' ? `, driver ${driver}` : ''}`;
    },
  },
};

function fileDetail({ bytes, tookMs, sha256 }: Detail): string {
  if (typeof bytes !== 'number' || typeof tookMs !== 'number') return '–';
  return `${formatBytes(bytes)} in ${formatDuration(tookMs)}, SHA-256 ${shown(sha256).slice(0, SHOWN_HASH_CHARS)}…`;
}

function shown(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '–';
}

/** What a test of a failover found. Pure. */
export function failoverTestEvidence(
  data: FailoverTestData,
  facts: { readonly snapshot: SnapshotRecord | undefined; readonly rented: readonly Pick<InstanceRow, 'epoch'>[] },
): readonly Claim[] {
  const { folder, check, restore, wantedCheck, primaryBefore, primaryAfter } = data;
  const { snapshot, rented } = facts;
  const claims: Claim[] = [];
  if (snapshot !== undefined) {
    const detail = `${snapshot.snapshotId}: ${snapshot.fileCount} files, ${formatBytes(snapshot.totalBytes)}`;
    claims.push(['The primary published a snapshot', true, detail]);
  }
  if (restore !== null) {
    const detail = `${formatBytes(restore.bytesWritten)} written in ${formatDuration(restore.totalMs)}`;
    claims.push(['The snapshot was restored on another machine', true, detail]);
  }
  if (folder !== null) {
    const read = `${folder.fileCount} files, ${formatBytes(folder.bytes)} read back in ${formatDuration(folder.tookMs)}`;
    const tree = `tree ${folder.actualTree.slice(0, SHOWN_HASH_CHARS)}…`;
    const detail = folder.ok ? `${read}; ${tree}` : `${read}; ${folder.differences.slice(0, 3).join('; ')}`;
    claims.push(['Every byte, size, type and mode is that of the snapshot', folder.ok, detail]);
  }
  if (check !== null) {
    const answer = `${check.tokens ?? 0} tokens, the first after ${formatDuration(check.firstTokenMs ?? 0)}`;
    const detail = check.ok ? answer : (check.error ?? 'no answer');
    claims.push([`${check.model ?? 'The workload'} answers there`, check.ok, detail]);
  } else if (wantedCheck !== null && folder?.ok === true) {
    claims.push(['The workload answers there', false, data.failure ?? 'it was not asked']);
  }
  if (primaryBefore !== null && primaryAfter !== null) {
    const isSame = primaryBefore.instanceId === primaryAfter.instanceId && primaryBefore.epoch === primaryAfter.epoch;
    const detail = isSame
      ? `${primaryAfter.instanceId ?? 'nobody'} at epoch ${primaryAfter.epoch}`
      : `a failover took place meanwhile: epoch ${primaryBefore.epoch} to ${primaryAfter.epoch}`;
    claims.push(['The primary is the one it was', isSame, detail]);
  }
  if (rented.length > 0) {
    const promoted = rented.filter(({ epoch }) => epoch !== null).length;
    claims.push([
      'No test machine ever held the lease',
      promoted === 0,
      `${rented.length} rented, ${promoted} promoted`,
    ]);
  }
  return claims;
}
