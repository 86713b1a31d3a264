import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PACKS_PREFIX } from '@dumont/shared/format/layout.ts';
import { newId, type WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { SnapshotRef } from '@dumont/shared/protocol/snapshot-record.ts';
import type { StorageGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom, type Random } from '@dumont/shared/util/random.ts';
import { restoreSnapshot } from '@dumont/agent/restore/restorer.ts';
import { verifySnapshot } from '@dumont/agent/restore/verify.ts';
import { findSnapshot, listSnapshots } from '@dumont/agent/snapshot/catalogue.ts';
import { readManifest } from '@dumont/agent/snapshot/manifest-store.ts';
import { Snapshotter } from '@dumont/agent/snapshot/snapshotter.ts';
import type { ObjectStore } from '@dumont/agent/storage/object-store.ts';
import { openStore } from '@dumont/agent/storage/open-store.ts';
import { makeTempFolder } from '../../world/temp-folder.ts';
import type { TrialOrder } from './trial-child.ts';
import { readTrialTree, treeAt, treeProblems } from './trial-tree.ts';

const CHILD = join(import.meta.dirname, 'trial-child.ts');
const STEPS = 3;
/** Up to a heavy pack's upload. */
const MAX_TURNS = 400;

export interface TrialSpec {
  readonly seed: number;
  /** More than one pack in the first step. */
  readonly isHeavy: boolean;
  /** Where the store is, given a folder of the trial's own. */
  readonly grantIn: (folder: string) => StorageGrant;
  /** Calls a child of this kind makes when it lives; null to let it live. */
  readonly callsOfALife: number | null;
  /** Compiled modules of the children, shared by all. */
  readonly compileCache: string;
}

export interface TrialReport {
  readonly seed: number;
  readonly wasKilled: boolean;
  /** Calls of the store until the last finished step. */
  readonly calls: number;
  /** Whole packs in the store after the death that no manifest names. */
  readonly strayPacks: number;
  /** What is not as promised; empty when all is well. */
  readonly problems: readonly string[];
}

/** Lets a child take snapshots until it is killed, then holds the store to what was promised. */
export async function runTrial(spec: TrialSpec): Promise<TrialReport> {
  await using folder = await makeTempFolder();
  const root = join(folder.path, 'ws');
  await mkdir(root);
  const grant = spec.grantIn(folder.path);
  const workspaceId = newId('workspace');
  const random = seededRandom(spec.seed);
  const { seed, isHeavy, callsOfALife } = spec;
  const death = callsOfALife === null ? null : drawDeath(callsOfALife, random);
  const life = await live({ seed, isHeavy, steps: STEPS, root, grant, workspaceId, death }, spec.compileCache);
  await using store = await openStore(grant, { clock: systemClock, random });
  const trial = new Trial(store, { spec, root, workspaceId, target: join(folder.path, 'target') });
  return { seed, ...life, strayPacks: await trial.check(life.step), problems: trial.problems };
}

function drawDeath(calls: number, random: Random): NonNullable<TrialOrder['death']> {
  return {
    call: 1 + Math.floor(random.next() * calls),
    phase: random.next() < 0.6 ? 'begin' : 'end',
    turns: Math.floor(MAX_TURNS ** random.next()) - 1,
  };
}

interface Life {
  readonly wasKilled: boolean;
  /** The last one that was finished; 0 for none. */
  readonly step: number;
  readonly calls: number;
}

async function live(order: TrialOrder, compileCache: string): Promise<Life> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '', NODE_COMPILE_CACHE: compileCache },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  if (code !== 0 && signal !== 'SIGKILL') throw new Error(`the child of seed ${order.seed} failed:\n${stderr}`);
  const last = stdout.trim().split('\n').at(-1) ?? '';
  const { step, calls } = last === '' ? { step: 0, calls: 0 } : (JSON.parse(last) as { step: number; calls: number });
  return { wasKilled: signal === 'SIGKILL', step, calls };
}

interface Ground {
  readonly spec: TrialSpec;
  readonly root: string;
  readonly target: string;
  readonly workspaceId: WorkspaceId;
}

class Trial {
  readonly problems: string[] = [];
  readonly #store: ObjectStore;
  readonly #ground: Ground;
  #newest: SnapshotRef | null = null;

  constructor(store: ObjectStore, ground: Ground) {
    this.#store = store;
    this.#ground = ground;
  }

  /** Everything that is promised; what throws is a problem too. @returns how many packs no manifest names */
  async check(finishedStep: number): Promise<number> {
    try {
      await this.#checkNewest(finishedStep);
      return await this.#retry();
    } catch (error) {
      this.problems.push(String(error));
      return 0;
    }
  }

  /** Every manifest is whole, and the newest is the last finished step or the one that was under way. */
  async #checkNewest(finishedStep: number): Promise<void> {
    const { spec, workspaceId } = this.#ground;
    const snapshots = await listSnapshots(this.#store, workspaceId);
    const seq = snapshots.at(-1)?.seq ?? 0;
    if (seq !== finishedStep && seq !== finishedStep + 1) {
      this.problems.push(`step ${finishedStep} was finished, the newest manifest is of step ${seq}`);
    }
    for (const { snapshotId } of snapshots) {
      const snapshot = await findSnapshot(this.#store, { workspaceId, name: snapshotId });
      const { problems } = await verifySnapshot({ store: this.#store, snapshot, clock: systemClock, readData: null });
      this.problems.push(...problems.map((problem) => `snapshot of seed ${spec.seed}: ${problem}`));
      this.#newest = snapshot;
    }
    if (this.#newest === null) return;
    const restored = await this.#restore(this.#newest);
    this.#note('the newest snapshot', treeProblems(restored, treeAt(spec.seed, seq, spec.isHeavy)));
  }

  /** A new process takes a snapshot of what lies there now. */
  async #retry(): Promise<number> {
    const { root, workspaceId } = this.#ground;
    const strayPacks = await this.#countStrays();
    const parts = { store: this.#store, root, workspaceId, clock: systemClock, toolVersion: 'test' };
    const outcome = await new Snapshotter({ ...parts, writerId: 'retry' }).create({ epoch: 1, parent: this.#newest });
    this.problems.push(...outcome.tornPaths.map((path) => `${path} is torn in the retry`));
    const after = outcome.kind === 'created' ? outcome.record : this.#newest;
    if (after === null) this.problems.push('the retry made nothing of nothing');
    else this.#note('the retry', treeProblems(await this.#restore(after), await readTrialTree(root)));
    return strayPacks;
  }

  async #countStrays(): Promise<number> {
    const named = new Set<string>();
    if (this.#newest !== null) {
      for (const id of (await readManifest(this.#store, this.#newest)).manifest.packs)
        named.add(`${PACKS_PREFIX}${id}`);
    }
    const packs = await keysBelow(this.#store, PACKS_PREFIX);
    return packs.filter((key) => !named.has(key)).length;
  }

  async #restore(snapshot: SnapshotRef) {
    const { target } = this.#ground;
    await restoreSnapshot({ store: this.#store, snapshot, target, clock: systemClock, deleteExtra: true });
    return readTrialTree(target);
  }

  #note(what: string, problems: readonly string[]): void {
    this.problems.push(...problems.map((problem) => `${what}: ${problem}`));
  }
}

async function keysBelow(store: ObjectStore, prefix: string): Promise<readonly string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys;
}
