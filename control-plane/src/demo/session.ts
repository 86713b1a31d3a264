import { execFile } from 'node:child_process';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { createApiClient, type ApiClient } from '@dumont/shared/api/client.ts';
import type { InstanceView, WorkspaceView } from '@dumont/shared/api/views.ts';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { WorkspacePolicyInput } from '@dumont/shared/model/policy.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { SnapshotRecord } from '@dumont/shared/protocol/snapshot-record.ts';
import { snapshotRecordSchema } from '@dumont/shared/protocol/snapshot-record.ts';
import { workspacePrefix } from '@dumont/shared/storage/workspace-prefix.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { readControlConfig } from '../config.ts';
import type { ControlPlane } from '../context.ts';
import { startControlPlane } from '../context.ts';
import { machinesFolder, machinePaths } from '../providers/local/machine-folder.ts';
import { TRAINING_COMMAND, stageWorkspace } from './stage.ts';

const AGENT_MAIN = fileURLToPath(new URL('../../../agent/src/main.ts', import.meta.url));
/** How long the end of the demo waits for the proof that every machine is gone. */
const CLEAN_UP_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

export const DEMO_WORKSPACE = 'demo';

/** Instead of the half minute of a real workspace. */
export const DEMO_SNAPSHOT_INTERVAL_MS = 2_000;

/** As eager as a demonstration needs. */
const DEMO_POLICY: WorkspacePolicyInput = {
  strategy: 'race',
  raceWidth: 2,
  detectMode: 'fast',
  snapshotIntervalMs: DEMO_SNAPSHOT_INTERVAL_MS,
  workload: { command: TRAINING_COMMAND },
};

export interface DemoSessionOptions {
  readonly dataDirectory: string;
  readonly port: number;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** A control plane in this process and a client of its API: the demo does nothing an operator could not do. */
export class DemoSession implements AsyncDisposable {
  readonly client: ApiClient;
  readonly controlPlane: ControlPlane;
  readonly dataDirectory: string;

  private constructor(controlPlane: ControlPlane, dataDirectory: string) {
    this.controlPlane = controlPlane;
    this.dataDirectory = dataDirectory;
    this.client = createApiClient({ baseUrl: controlPlane.url, token: controlPlane.apiToken });
  }

  static async start(options: DemoSessionOptions): Promise<DemoSession> {
    const { config, secrets } = readControlConfig({
      ...process.env,
      DUMONT_DATA_DIR: options.dataDirectory,
      DUMONT_PORT: String(options.port),
      DUMONT_START_GRACE_MS: '3000',
    });
    const agentCommand = [process.execPath, AGENT_MAIN, 'run'];
    try {
      const controlPlane = await startControlPlane({ config, secrets, log: options.log, agentCommand });
      return new DemoSession(controlPlane, config.dataDirectory);
    } catch (error) {
      throw inTermsOfFlags(error);
    }
  }

  /** The demo's workspace from an earlier run that was cut short, if any. */
  async existing(): Promise<WorkspaceView | undefined> {
    try {
      return await this.client.call('getWorkspace', { params: { workspace: DEMO_WORKSPACE } });
    } catch (error) {
      if (isDumontError(error, 'NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /**
   * Puts a new workspace on its first machine: stages the folder, snapshots it with the agent's own command, and has
   * the control plane provision from that snapshot.
   */
  async provision(
    source: string | undefined,
    staging: string,
    standby: boolean,
  ): Promise<{ readonly operationId: string; readonly workspaceId: string }> {
    await stageWorkspace(staging, source);
    const workspaceId = newId('workspace');
    const snapshot = await this.#snapshotFolder(staging, workspaceId);
    return this.client.call('provision', {
      body: {
        name: DEMO_WORKSPACE,
        policy: { ...DEMO_POLICY, standby: { enabled: standby } },
        initial: { workspaceId, snapshot },
      },
    });
  }

  /** The primary as the API shows it, once there is one that serves. */
  async primary(): Promise<InstanceView> {
    const workspace = must(await this.existing(), 'the demo workspace exists');
    const instanceId = must(workspace.endpointInstanceId, 'the workspace is served');
    return this.client.call('getInstance', { params: { instanceId } });
  }

  /** Where a local machine keeps its /workspace on this computer. */
  workspaceFolderOf(instance: InstanceView): string {
    const ref = must(instance.providerRef, 'a served machine was rented');
    return machinePaths(join(machinesFolder(join(this.dataDirectory, 'machines')), ref)).workspace;
  }

  /** Polls until the operation is over. @throws {DumontError} PROVIDER when it failed */
  async finished(operationId: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const operation = await this.client.call('getOperation', { params: { operationId }, signal });
      if (operation.finished) {
        if (operation.state === 'completed') return;
        throw new DumontError(
          'PROVIDER',
          `${operation.kind} ended ${operation.state}: ${operation.error ?? 'no reason given'}`,
        );
      }
      await systemClock.sleep(POLL_MS, signal);
    }
  }

  /** Destroys every machine and waits for the proof. @throws {DumontError} TIMEOUT naming those still there */
  async destroyEverything(): Promise<void> {
    const untilMs = systemClock.monotonicMs() + CLEAN_UP_TIMEOUT_MS;
    for (;;) {
      const { items } = await this.client.call('listLedger', { query: { all: 'false' } });
      if (items.length === 0) return;
      for (const { instanceId, releaseAskedAtMs } of items) {
        if (releaseAskedAtMs !== null) continue;
        await this.client
          .call('destroyInstance', { params: { instanceId }, query: { snapshot: 'false' } })
          .catch((error: unknown) => {
            // Another operation holds the workspace for the moment, or the machine went meanwhile: look again.
            if (!isDumontError(error, 'CONFLICT')) throw error;
          });
      }
      if (systemClock.monotonicMs() > untilMs) {
        throw new DumontError('TIMEOUT', `still there: ${items.map(({ label }) => label).join(', ')}`);
      }
      await systemClock.sleep(POLL_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.controlPlane[Symbol.asyncDispose]();
  }

  async #snapshotFolder(folder: string, workspaceId: WorkspaceId): Promise<SnapshotRecord> {
    const store = join(this.dataDirectory, 'objects', workspacePrefix(workspaceId));
    await mkdir(store, { recursive: true, mode: 0o700 });
    const words = [
      'snapshot',
      folder,
      '--to',
      pathToFileURL(store).href,
      '--workspace',
      workspaceId,
      '--json',
      '--no-cache',
    ];
    // Nothing of the demo may stay outside of its own folder.
    const env = { ...process.env, XDG_CACHE_HOME: join(this.dataDirectory, 'cache') };
    try {
      const { stdout } = await promisify(execFile)(process.execPath, [AGENT_MAIN, ...words], {
        maxBuffer: MAX_AGENT_OUTPUT_BYTES,
        env,
      });
      return snapshotRecordSchema.parse(JSON.parse(stdout));
    } catch (error) {
      throw new DumontError('IO', `the workspace could not be snapshotted: ${stderrOf(error)}`, {
        field: '--workspace',
        hint: 'Make every file in it readable, or name another folder.',
        cause: error,
      });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

/** The control plane is set by variables, the demo by flags: the hint must name what its user can change. */
function inTermsOfFlags(error: unknown): unknown {
  if (!isDumontError(error)) return error;
  const { code, message, field } = error;
  switch (field) {
    case 'DUMONT_PORT':
      return new DumontError(code, message, {
        field: '--port',
        hint: 'Stop the process that holds it (is a demo running already?), or add --port 0 for any free port.',
        cause: error,
      });
    case 'DUMONT_DATA_DIR':
    case 'FILE_STORE_PATH':
      return new DumontError(code, message, {
        field: '--data-dir',
        hint: 'Stop the demo that uses it, if one does, or name another folder with --data-dir.',
        cause: error,
      });
    default:
      return error;
  }
}

/** A JSON object with at most a few thousand torn or skipped paths. */
const MAX_AGENT_OUTPUT_BYTES = 16 * 1_048_576;

function stderrOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'stderr' in error && typeof error.stderr === 'string') {
    const said = error.stderr.trim();
    if (said !== '') return said;
  }
  return toDumontError(error).message;
}
