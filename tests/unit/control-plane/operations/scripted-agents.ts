import type { InstanceId, SnapshotId } from '@dumont/shared/model/ids.ts';
import type { MergeResult } from '@dumont/shared/protocol/branch.ts';
import type { Action, ActionResult, RestoreResult } from '@dumont/shared/protocol/command.ts';
import type { Assignment } from '@dumont/shared/protocol/hello.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { CheckReport } from '@dumont/shared/model/workload-check.ts';
import { probeHash } from '@dumont/shared/node/probe-content.ts';
import type { GpuSample } from '@dumont/shared/protocol/heartbeat.ts';
import type { FolderCheck, ProbeFile } from '@dumont/shared/protocol/trial.ts';
import { PROBE_BYTES } from '@dumont/control-plane/operations/provider-test.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';

type Answer = (instanceId: InstanceId, action: Action) => Promise<ActionResult>;

/** The hub as operations see it, with agents that do at once what they are told unless a test says otherwise. */
export class ScriptedAgents {
  readonly commands: { readonly instanceId: InstanceId; readonly name: Action['name'] }[] = [];
  /** What each agent was told last. */
  readonly assignments = new Map<InstanceId, Assignment>();
  /** Instead of obedience, by name of the command. */
  readonly answers: Partial<Record<Action['name'], Answer>> = {};
  readonly #connected = new Set<InstanceId>();
  readonly #waiters = new Set<() => void>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  connect(instanceId: InstanceId): void {
    this.#connected.add(instanceId);
    for (const wake of this.#waiters) wake();
  }

  disconnect(instanceId: InstanceId): void {
    this.#connected.delete(instanceId);
  }

  isConnected(instanceId: InstanceId): boolean {
    return this.#connected.has(instanceId);
  }

  /** A connected agent is always heard. */
  heardAtMonotonicMs(instanceId: InstanceId): number | null {
    return this.#connected.has(instanceId) ? this.#clock.monotonicMs() : null;
  }

  waitConnected(instanceId: InstanceId, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (signal.aborted) reject(signal.reason as Error);
        else if (this.#connected.has(instanceId)) resolve();
        else return;
        this.#waiters.delete(look);
      };
      this.#waiters.add(look);
      signal.addEventListener('abort', look, { once: true });
      look();
    });
  }

  /** As the hub: an absent agent hears it in its next welcome. */
  assign(instanceId: InstanceId, assignment: Assignment): void {
    if (this.#connected.has(instanceId)) this.assignments.set(instanceId, assignment);
  }

  async run(
    instanceId: InstanceId,
    action: Action,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<ActionResult> {
    this.commands.push({ instanceId, name: action.name });
    const work = this.#connected.has(instanceId)
      ? (this.answers[action.name] ?? obey)(instanceId, action)
      : new Promise<never>(() => {});
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new DumontError('ABORTED', 'the command was called back')), {
        once: true,
      });
    });
    return Promise.race([work, aborted]);
  }

  /** Instances that were told to do this, in order. */
  toldTo(name: Action['name']): readonly InstanceId[] {
    return this.commands.filter((command) => command.name === name).map(({ instanceId }) => instanceId);
  }
}

async function obey(_instanceId: InstanceId, action: Action): Promise<ActionResult> {
  switch (action.name) {
    case 'restore':
      return { name: 'restore', restore: restored(action.snapshot.snapshotId) };
    case 'snapshot':
      return { name: 'snapshot', record: null };
    case 'start-workload':
      return { name: 'start-workload', state: 'running', pid: 42 };
    case 'stop-workload':
      return { name: 'stop-workload', state: 'stopped' };
    case 'harvest':
      return { name: 'harvest', record: null, summary: null };
    case 'merge-branch':
      return { name: 'merge-branch', merge: mergedNothing() };
    case 'upgrade':
      return { name: 'upgrade', from: '0.1.0', to: action.release.version };
    case 'verify-restore':
      return { name: 'verify-restore', folder: foldedAsIs() };
    case 'trial-workload':
      return { name: 'trial-workload', state: 'running', check: goodCheck(), error: null };
    case 'write-probe':
      return { name: 'write-probe', file: probeFile(action.nonce, action.sizeBytes) };
    case 'read-probe':
      return { name: 'read-probe', file: probeFile(action.nonce, PROBE_BYTES) };
    case 'sample-gpus':
      return { name: 'sample-gpus', isThere: true, driver: '570.1', gpus: [GPU], tookMs: 30, error: null };
  }
}

const GPU: GpuSample = {
  index: 0,
  name: 'NVIDIA GeForce RTX 4090',
  utilPct: 0,
  memoryUsedBytes: 0,
  memoryTotalBytes: 25_757_220_864,
  temperatureC: 31,
  powerW: 20,
};

function probeFile(nonce: string, bytes: number): ProbeFile {
  return { sha256: probeHash(nonce, bytes), bytes, tookMs: 12 };
}

function foldedAsIs(): FolderCheck {
  const tree = 'ab'.repeat(32);
  const counts = { fileCount: 3, entryCount: 4, bytes: 4_096, differenceCount: 0, differences: [] };
  return { ok: true, expectedTree: tree, actualTree: tree, ...counts, tookMs: 9 };
}

function goodCheck(): CheckReport {
  return { kind: 'ollama', model: 'm', ok: true, readyMs: 5, firstTokenMs: 2, tokens: 3, totalMs: 9, error: null };
}

function mergedNothing(): MergeResult {
  const counts = { taken: 0, beside: 0, same: 0, kept: 0, deleted: 0 };
  return { counts, bytesWritten: 0, paths: [], snapshotBefore: null, snapshotAfter: null };
}

export function restored(snapshotId: SnapshotId): RestoreResult {
  return {
    snapshotId,
    fileCount: 3,
    bytesWritten: 4_096,
    bytesFetched: 700,
    totalMs: 20,
    downloadMs: 10,
    decompressMs: 5,
    hookMs: 0,
  };
}
