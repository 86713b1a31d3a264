import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { must } from '@dumont/shared/util/assert.ts';
import { test } from 'vitest';
import { startS3Simulator } from '../simulators/s3/s3-simulator.ts';
import { startVastSimulator, type VastSimulator } from '../simulators/vast/vast-simulator.ts';
import { builtAgent } from './agent-build.ts';
import { ControlPlaneProcess, type Death } from './control-plane-process.ts';
import { eventually } from './eventually.ts';
import { Site } from './site.ts';

const ACCOUNT = { accessKeyId: 'account-key-id', secretAccessKey: 'known-to-the-control-plane-alone' };
/** On two busy cores; a machine is up in seconds otherwise. */
const SERVED_WITHIN_MS = 150_000;

/** As root each machine gets a root of its own, in which the agent can be installed as in a container. */
export const onMachines = test.skipIf(process.getuid?.() !== 0 || !existsSync('/usr/sbin/sshd'));

/** A site whose machines are rented at a simulated Vast.ai, and whose snapshots are in a simulated bucket. */
export class VastSite implements AsyncDisposable {
  readonly site: Site;
  readonly vast: VastSimulator;
  readonly #environment: Readonly<Record<string, string>>;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: { readonly site: Site; readonly vast: VastSimulator },
    environment: Readonly<Record<string, string>>,
    resources: AsyncDisposableStack,
  ) {
    this.site = parts.site;
    this.vast = parts.vast;
    this.#environment = environment;
    this.#resources = resources;
  }

  /** @param environment of its control planes, besides what leads them to Vast and the bucket */
  static async make(environment: Readonly<Record<string, string>> = {}): Promise<VastSite> {
    await using stack = new AsyncDisposableStack();
    const bucket = stack.use(await startS3Simulator({ ...ACCOUNT, buckets: ['snapshots'] }));
    const vast = stack.use(await startVastSimulator({ speed: 40, isCalm: true }));
    const site = stack.use(await Site.make());
    const agent = await builtAgent();
    const settings = {
      DUMONT_LOCAL_PROVIDER: 'false',
      DUMONT_VAST_API_KEY: vast.apiKey,
      DUMONT_VAST_URL: vast.url,
      DUMONT_VAST_IMAGE: 'ubuntu:24.04',
      DUMONT_DOWNLOADS_DIR: dirname(agent.directory),
      STORAGE_PROVIDER: 'minio',
      MINIO_ENDPOINT: bucket.endpoint,
      MINIO_BUCKET: 'snapshots',
      MINIO_KEY_ID: ACCOUNT.accessKeyId,
      MINIO_APPLICATION_KEY: ACCOUNT.secretAccessKey,
      ...environment,
    };
    return new VastSite({ site, vast }, settings, stack.move());
  }

  startControlPlane(death?: Death): Promise<ControlPlaneProcess> {
    return ControlPlaneProcess.start(this.site, death, this.#environment);
  }

  /** Leaves these offers on the market and no others; each with what goes wrong there, `ok` for nothing. */
  leaveOnly(behaviours: ReadonlyMap<number, string>): void {
    for (const offer of this.vast.market.asks.keys()) {
      const behaviour = behaviours.get(offer);
      if (behaviour === undefined) this.vast.inflict({ kind: 'withdraw', offer });
      else this.vast.inflict({ kind: 'behaviour', offer, behaviour });
    }
  }

  /** The instance that serves a workspace, once one does. */
  async served(workspace: string): Promise<string> {
    const view = () => this.site.client.call('getWorkspace', { params: { workspace } });
    const ready = async () => {
      const { primaryInstanceId, operationId } = await view();
      return operationId === null ? primaryInstanceId : null;
    };
    return must(await eventually(`a machine serves ${workspace}`, ready, SERVED_WITHIN_MS), 'it is served');
  }

  /** Gives the machine back without a snapshot. */
  async stop(instanceId: string): Promise<void> {
    const query = { snapshot: 'false' } as const;
    await this.site.client.call('destroyInstance', { params: { instanceId }, query });
  }

  /** Resolves when the account and the books hold so many machines, and no other is wanted gone. */
  async holdsOnly(count: number): Promise<void> {
    await eventually(`${count} machines are left`, () => this.vast.account.contracts.size === count, 60_000);
    await eventually('the books say the same', async () => {
      return (await this.site.client.call('listLedger', { query: {} })).items.length === count;
    });
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.#resources.disposeAsync();
  }
}
