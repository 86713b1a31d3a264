import { execFile, spawn } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { InstanceView, SnapshotView } from '@dumont/shared/api/views.ts';
import type { WorkspacePolicyInput } from '@dumont/shared/model/policy.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { ControlPlaneProcess } from '../../world/control-plane-process.ts';
import { eventually } from '../../world/eventually.ts';
import { ProtectedWorkspace } from '../../world/protected-workspace.ts';
import { AGENT_MAIN, machineProcesses, Site } from '../../world/site.ts';
import { LossyRelay } from './lossy-relay.ts';
import { PacketFilter, type Flow } from './packet-filter.ts';
import { lastTickIn, TICK_WORKLOAD } from './ticks.ts';
import { OFFSET_FILE, STEPPED_CLOCK, stepWallClock } from './wall-clock.ts';

const run = promisify(execFile);

/** On a busy computer. */
const READY_MS = 60_000;
const HTTP_PORT = 8_080;
const BALLAST_BYTES = 1024 * 1024;

/** What a case wants to have there before its fault. */
export interface Setting {
  /** True unless said otherwise. */
  readonly hasStandby?: boolean;
  readonly policy?: WorkspacePolicyInput;
  /** All machines share a disk of so many bytes. */
  readonly diskBytes?: number;
}

/**
 * One installation with one workspace at work: a control plane in its own process, a primary and its standby. Faults are
 * done to it through the operating system. At its end nothing of it is left.
 */
export class Stage implements AsyncDisposable {
  readonly site: Site;
  readonly relay: LossyRelay;
  readonly workspace: ProtectedWorkspace;
  readonly primary: InstanceView;
  readonly standby: InstanceView | null;
  readonly filter: PacketFilter;
  controlPlane: ControlPlaneProcess;
  readonly #extra: Readonly<Record<string, string>>;
  readonly #owned: AsyncDisposableStack;

  private constructor(parts: {
    readonly base: Base;
    readonly owned: AsyncDisposableStack;
    readonly workspace: ProtectedWorkspace;
    readonly primary: InstanceView;
    readonly standby: InstanceView | null;
  }) {
    const { base, workspace, primary, standby, owned } = parts;
    this.site = base.site;
    this.relay = base.relay;
    this.filter = base.filter;
    this.controlPlane = base.controlPlane;
    this.#extra = base.extra;
    this.workspace = workspace;
    this.primary = primary;
    this.standby = standby;
    this.#owned = owned;
  }

  /** Resolves when the workload runs and, where there is a standby, that has everything. */
  static async set(setting: Setting): Promise<Stage> {
    await using owned = new AsyncDisposableStack();
    const base = await lay(setting, owned);
    const { site } = base;
    const command = `CHAOS_EVIDENCE=${evidenceFolder(site)} exec node tick.mjs`;
    const { hasStandby = true, policy = {} } = setting;
    const workspace = await ProtectedWorkspace.provision(site, 'chaos', {
      snapshotIntervalMs: 60_000,
      ports: { http: HTTP_PORT, public: true },
      files: { 'tick.mjs': TICK_WORKLOAD },
      workload: { command },
      standby: { enabled: hasStandby, command },
      ...policy,
    });
    const standby = hasStandby ? await standbyOf(workspace) : null;
    const primary = await workspace.primary();
    await eventually('the work has begun', () => lastTickIn(workspace.workspaceFolder(primary)), READY_MS);
    return new Stage({ base, workspace, primary, standby, owned: owned.move() });
  }

  get evidenceFolder(): string {
    return evidenceFolder(this.site);
  }

  async gatewayUrl(): Promise<string> {
    return must((await this.workspace.view()).gateway.http, 'it serves HTTP');
  }

  writeSafely(): Promise<SnapshotView> {
    return this.workspace.writeSafely('kept.txt', 'acknowledged before the fault');
  }

  /** SIGKILLs the control plane; {@link startControlPlane} brings it back. */
  async startControlPlane(): Promise<void> {
    this.controlPlane = await ControlPlaneProcess.start(this.site, undefined, this.#extra);
  }

  refOf(machine: InstanceView): string {
    return must(machine.providerRef, 'it was rented');
  }

  /** To processes of a machine; by default to all of them. */
  async signal(machine: InstanceView, signal: NodeJS.Signals, of: 'agent' | 'all' = 'all'): Promise<void> {
    const mine = (await machineProcesses()).filter(({ ref }) => ref === machine.providerRef);
    const chosen = of === 'all' ? mine : mine.filter(({ commandLine }) => commandLine.includes(AGENT_MAIN));
    for (const { pid } of chosen) process.kill(pid, signal);
  }

  /** Its way to the control plane and back: agent, probe, users. */
  async controlFlows(machine: InstanceView): Promise<{ readonly out: readonly Flow[]; readonly in: readonly Flow[] }> {
    const agent = (await machineProcesses()).find(({ ref, commandLine }) => {
      return ref === machine.providerRef && commandLine.includes(AGENT_MAIN);
    });
    const uplink = /DUMONT_CONTROL_URL=[^\0]*:(\d+)/.exec(must(agent, 'it has an agent').environment)?.[1];
    const shown = await this.#show(machine);
    const ports = [shown.probe?.port, shown.ssh?.port, shown.ports.get(HTTP_PORT)?.port];
    const outer = ports.filter((port) => port !== undefined);
    const uplinkPort = Number(must(uplink, 'an agent knows its control plane'));
    return {
      out: [{ to: uplinkPort }, ...outer.map((from) => ({ from }))],
      in: [{ from: uplinkPort }, ...outer.map((to) => ({ to }))],
    };
  }

  /** The way of sync between the two. */
  async syncFlows(): Promise<{ readonly out: readonly Flow[]; readonly in: readonly Flow[] }> {
    if (this.standby === null) return { out: [], in: [] };
    const { ports } = await this.#show(this.standby);
    const sync = [...ports].filter(([inner]) => inner !== HTTP_PORT).map(([, { port }]) => port);
    return { out: sync.map((to) => ({ to })), in: sync.map((from) => ({ from })) };
  }

  /** Busy processes, several for each core, until the returned function is called. */
  hogCpu(count: number): () => void {
    const program = 'for (;;);';
    const hogs = Array.from({ length: count }, () => spawn(process.execPath, ['-e', program], { stdio: 'ignore' }));
    return () => {
      for (const hog of hogs) hog.kill('SIGKILL');
    };
  }

  /** Leaves no byte on the disk of the machines. @returns what gives the space back */
  async fillDisk(): Promise<() => Promise<void>> {
    const path = join(machinesRoot(this.site), 'ballast');
    const block = Buffer.alloc(BALLAST_BYTES, 1);
    for (const size of [BALLAST_BYTES, 4_096]) {
      for (;;) {
        try {
          await writeFile(path, block.subarray(0, size), { flag: 'a' });
        } catch {
          break;
        }
      }
    }
    return () => rm(path, { force: true });
  }

  async stepAgentClock(machine: InstanceView, offsetMs: number): Promise<void> {
    await stepWallClock(join(this.site.paths(machine.providerRef).folder, OFFSET_FILE), offsetMs);
  }

  async stepControlClock(offsetMs: number): Promise<void> {
    await stepWallClock(controlClockFile(this.site), offsetMs);
  }

  sleep(ms: number): Promise<void> {
    return systemClock.sleep(ms);
  }

  /** Gives everything back in good order. @returns what is left that should not be */
  async end(): Promise<readonly string[]> {
    const { site, workspace } = this;
    const last = await workspace.primary();
    const params = { instanceId: last.instanceId };
    await site.client.call('destroyInstance', { params, query: { snapshot: 'false' } });
    const problems: string[] = [];
    const isClosed = async () => (await site.client.call('listLedger')).items.length === 0;
    await eventually('the books are closed', isClosed, READY_MS).catch(() =>
      problems.push('machines are left in the books'),
    );
    const { signal } = new AbortController();
    if ((await site.provider.list({ signal })).length > 0) problems.push('machines are left at the provider');
    const left = await processesOf(site);
    if (left.length > 0) problems.push(`${left.length} processes are left`);
    return problems;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.controlPlane.kill();
    await this.#owned[Symbol.asyncDispose]();
  }

  async #show(machine: InstanceView) {
    const { signal } = new AbortController();
    return must(await this.site.provider.show(this.refOf(machine), { signal }), 'the provider knows it');
  }
}

type Base = Awaited<ReturnType<typeof lay>>;

/** The site, the wire to it and its control plane. */
async function lay({ diskBytes }: Setting, owned: AsyncDisposableStack) {
  const site = owned.use(await Site.make());
  const filter = owned.use(new PacketFilter());
  const relay = owned.use(await LossyRelay.start(site.port));
  await mkdir(evidenceFolder(site));
  if (diskBytes !== undefined) await mountDisk(site, diskBytes, owned);
  const extra = {
    DUMONT_PUBLIC_URL: `http://127.0.0.1:${relay.port}`,
    TEST_AGENT_IMPORT: STEPPED_CLOCK,
    CHAOS_CLOCK_FILE: controlClockFile(site),
    NODE_OPTIONS: `--import=${STEPPED_CLOCK}`,
  };
  const controlPlane = await ControlPlaneProcess.start(site, undefined, extra);
  owned.defer(() => controlPlane.kill());
  return { site, filter, relay, extra, controlPlane };
}

async function mountDisk(site: Site, bytes: number, owned: AsyncDisposableStack): Promise<void> {
  const root = machinesRoot(site);
  await mkdir(root, { recursive: true, mode: 0o700 });
  await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', root]);
  owned.defer(async () => {
    // Without the disk nobody would find the machines on it any more.
    for (const { pid } of await processesOf(site)) process.kill(pid, 'SIGKILL');
    await run('umount', ['--lazy', root]);
  });
}

/** Of all machines that were ever rented there. */
async function processesOf(site: Site) {
  return (await machineProcesses()).filter(({ environment }) => environment.includes(site.folder));
}

function standbyOf(workspace: ProtectedWorkspace): Promise<InstanceView> {
  return eventually(
    'the standby has everything',
    async () => {
      const { standby } = await workspace.view();
      const behindMs = standby?.behindMs ?? null;
      return standby !== null && behindMs !== null && behindMs < 1_000 && workspace.instance(standby.instanceId);
    },
    READY_MS,
  );
}

function evidenceFolder(site: Site): string {
  return join(site.folder, 'evidence');
}

function machinesRoot(site: Site): string {
  return join(site.dataDirectory, 'machines');
}

function controlClockFile(site: Site): string {
  return join(site.folder, OFFSET_FILE);
}
