import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { restoreSnapshot } from '@dumont/agent/restore/restorer.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import { FileStore } from '@dumont/agent/storage/file-store.ts';
import type { FailoverReport } from '@dumont/shared/api/failover-report.ts';
import type { EventView, InstanceView, OperationView, SnapshotView, WorkspaceView } from '@dumont/shared/api/views.ts';
import { newId, type SnapshotId, type WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { WorkspacePolicyInput } from '@dumont/shared/model/policy.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { isDumontError } from '@dumont/shared/util/errors.ts';
import { created } from './engine.ts';
import { eventually } from './eventually.ts';
import type { Site } from './site.ts';
import { makeTempFolder } from './temp-folder.ts';
import { differences, makeTree, seeTree, type TreeNode } from './tree.ts';

/** Longest a provision or failover may take on two busy cores. */
const OPERATION_TIMEOUT_MS = 60_000;
const LOG_FILE = 'work.log';

/** Counts in work.log, twenty times a second, and goes on where the log ends. Every line names its process. */
const WORKLOAD = `
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
const lines = existsSync('work.log') ? readFileSync('work.log', 'utf8').trim().split('\\n') : [];
let count = Number(lines.findLast((line) => line.startsWith('count '))?.split(' ')[1] ?? 0);
appendFileSync('work.log', \`start \${process.pid}\\n\`);
setInterval(() => appendFileSync('work.log', \`count \${(count += 1)} \${process.pid}\\n\`), 50);
`;

const TREE: Readonly<Record<string, TreeNode>> = {
  'work.mjs': { kind: 'file', content: Buffer.from(WORKLOAD) },
  'src/model.py': { kind: 'file', content: Buffer.from('def forward(x):\n    return x\n') },
  'src/current': { kind: 'symlink', target: 'model.py' },
  'data/weights.bin': { kind: 'file', content: Buffer.alloc(300_000, 'weights ') },
  'notes/ação — №1.txt': { kind: 'file', content: Buffer.from('odd\n'), mode: 0o600 },
  'run.sh': { kind: 'file', content: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
  outputs: { kind: 'dir' },
};

/** A policy, and files besides the usual ones, by path. */
type WorkspaceOrder = WorkspacePolicyInput & { readonly files?: Readonly<Record<string, string>> };

/** A small workspace with a small workload on the machines of a site; asked about and moved through the API alone. */
export class ProtectedWorkspace {
  readonly site: Site;
  readonly name: string;
  /** The operation that puts it on its first machine. */
  readonly provisionId: string;

  private constructor(site: Site, name: string, provisionId: string) {
    this.site = site;
    this.name = name;
    this.provisionId = provisionId;
  }

  /** Resolves when the workload runs on the first machine. */
  static async provision(site: Site, name: string, policy: WorkspaceOrder = {}): Promise<ProtectedWorkspace> {
    const workspace = await ProtectedWorkspace.order(site, name, policy);
    const { state, error } = await workspace.operation(workspace.provisionId);
    if (state !== 'completed') throw new Error(`provision ended ${state}: ${error}`);
    return workspace;
  }

  /** The same without waiting for a machine. */
  static async order(site: Site, name: string, order: WorkspaceOrder = {}): Promise<ProtectedWorkspace> {
    // What tests look at is what follows a loss, so that silence is to be proof enough soon.
    const { files = {}, ...policy } = { detectMode: 'fast', ...order } as const;
    const root = join(site.folder, `staging-${name}`);
    await mkdir(root);
    const more = Object.entries(files).map(
      ([path, text]) => [path, { kind: 'file', content: Buffer.from(text) }] as const,
    );
    await makeTree(root, { ...TREE, ...Object.fromEntries(more) });
    const workspaceId = newId('workspace');
    const store = new FileStore(join(site.storePath, workspacePrefix(workspaceId)));
    const parts = { store, root, workspaceId, writerId: 'staging', clock: systemClock, toolVersion: 'test' };
    const snapshot = created(await new Snapshotter(parts).create({ epoch: 0, parent: null }));
    const { operationId } = await site.client.call('provision', {
      body: {
        name,
        policy: { raceWidth: 1, snapshotIntervalMs: 500, workload: { command: 'node work.mjs' }, ...policy },
        initial: { workspaceId, snapshot },
      },
    });
    return new ProtectedWorkspace(site, name, operationId);
  }

  view(): Promise<WorkspaceView> {
    return this.site.client.call('getWorkspace', { params: { workspace: this.name } });
  }

  instance(instanceId: string): Promise<InstanceView> {
    return this.site.client.call('getInstance', { params: { instanceId } });
  }

  async primary(): Promise<InstanceView> {
    return this.instance(must((await this.view()).primaryInstanceId, 'somebody is primary'));
  }

  /** Machines that are not proven gone. */
  async machines(): Promise<readonly InstanceView[]> {
    return (await this.site.client.call('listInstances', { query: { workspace: this.name } })).items;
  }

  /** Newest first. */
  async snapshots(): Promise<readonly SnapshotView[]> {
    return (await this.site.client.call('listSnapshots', { query: { workspace: this.name, limit: 500 } })).items;
  }

  /** Newest first. */
  async failovers(): Promise<readonly FailoverReport[]> {
    return (await this.site.client.call('listFailovers', { query: { workspace: this.name } })).items;
  }

  /** Oldest first. */
  async events(): Promise<readonly EventView[]> {
    return (await this.site.client.call('listEvents', { query: { workspace: this.name, limit: 500 } })).items;
  }

  /** Resolves with the operation once it is over, also across deaths of the control plane. */
  async operation(operationId: string, withinMs = OPERATION_TIMEOUT_MS): Promise<OperationView> {
    return eventually(
      `operation ${operationId} is over`,
      async () => {
        const operation = await this.#answer(() => this.site.client.call('getOperation', { params: { operationId } }));
        return operation?.finished === true && operation;
      },
      withinMs,
    );
  }

  /** Resolves with the report of the `count`-th failover of this workspace once it is over. */
  async failoverOver(count = 1, withinMs = OPERATION_TIMEOUT_MS): Promise<FailoverReport> {
    return eventually(
      `failover number ${count} of ${this.name} is over`,
      async () => {
        const reports = (await this.#answer(() => this.failovers())) ?? [];
        const report = reports.toReversed()[count - 1];
        return report !== undefined && report.success !== null && report;
      },
      withinMs,
    );
  }

  /** Resolves once an operation of this workspace has entered the state. */
  async reached(kind: 'failover' | 'provision', state: string, withinMs = 30_000): Promise<void> {
    await eventually(
      `a ${kind} of ${this.name} is ${state}`,
      async () => {
        const query = { workspace: this.name, kind } as const;
        return (await this.site.client.call('listOperations', { query })).items.some((each) => each.state === state);
      },
      withinMs,
    );
  }

  workspaceFolder(machine: InstanceView): string {
    return this.site.paths(machine.providerRef).workspace;
  }

  /** The workload's log on a machine, whole lines. */
  async log(machine: InstanceView): Promise<readonly string[]> {
    const text = await readFile(join(this.workspaceFolder(machine), LOG_FILE), 'utf8');
    return text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .slice(0, -1);
  }

  /** The log's lines that tell of a start of the workload. */
  async starts(machine: InstanceView): Promise<readonly string[]> {
    return (await this.log(machine)).filter((line) => line.startsWith('start '));
  }

  /** The log as a snapshot holds it. */
  async logIn(snapshot: SnapshotView): Promise<readonly string[]> {
    await using restored = await this.#restoredHere(snapshot);
    return wholeLines(await readFile(join(restored.path, LOG_FILE), 'utf8'));
  }

  /** Resolves when the workload on the machine has written another line. */
  async worksOn(machine: InstanceView): Promise<void> {
    const before = (await this.log(machine)).length;
    await eventually('the workload goes on', async () => (await this.log(machine)).length > before);
  }

  /** Processes of the workload on a machine. */
  workers(machine: InstanceView): Promise<readonly number[]> {
    return this.site.processes(machine.providerRef, 'node work.mjs');
  }

  /** Writes a file on a machine and has it snapshotted: acknowledged when this resolves. */
  async writeSafely(path: string, content: string): Promise<SnapshotView> {
    const machine = await this.primary();
    await writeFile(join(this.workspaceFolder(machine), path), content);
    const { snapshot } = await this.site.client.call('takeSnapshot', { body: { workspace: this.name } });
    return must(snapshot, 'there was something to save');
  }

  /**
   * Holds a machine's folder against a snapshot that is restored here, apart from all machines.
   * @returns one line per difference; the log may only have grown
   */
  async differencesFrom(snapshot: SnapshotView, machine: InstanceView): Promise<readonly string[]> {
    await using restored = await this.#restoredHere(snapshot);
    const target = restored.path;
    const [should, is] = [await seeTree(target), await seeTree(this.workspaceFolder(machine))];
    const owed = await readFile(join(target, LOG_FILE), 'utf8').catch(() => '');
    const log = await readFile(join(this.workspaceFolder(machine), LOG_FILE), 'utf8').catch(() => '');
    for (const tree of [should, is]) tree.delete(LOG_FILE);
    const lines = differences(should, is);
    return log.startsWith(owed) ? lines : [...lines, `${LOG_FILE}: does not begin with what was saved`];
  }

  async #restoredHere(view: SnapshotView): Promise<AsyncDisposable & { readonly path: string }> {
    const folder = await makeTempFolder();
    const { manifestKey, manifestHash } = view;
    const snapshot = { snapshotId: view.snapshotId as SnapshotId, manifestKey, manifestHash };
    const store = new FileStore(join(this.site.storePath, workspacePrefix(view.workspaceId as WorkspaceId)));
    await restoreSnapshot({ store, snapshot, target: folder.path, clock: systemClock, deleteExtra: false });
    return folder;
  }

  /** The answer, or undefined while no control plane answers. */
  async #answer<Answer>(call: () => Promise<Answer>): Promise<Answer | undefined> {
    try {
      return await call();
    } catch (error) {
      if (isDumontError(error, 'UNAVAILABLE')) return undefined;
      throw error;
    }
  }
}

function wholeLines(text: string): readonly string[] {
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1);
}
