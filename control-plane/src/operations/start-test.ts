import type { FailoverTestBody, ProviderTestBody } from '@dumont/shared/api/test-endpoints.ts';
import type { OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Workload } from '@dumont/shared/model/policy.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import type { WorkloadCheck } from '@dumont/shared/model/workload-check.ts';
import { workloadCheckSchema } from '@dumont/shared/model/workload-check.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { ProviderRegistry } from '../providers/provider.ts';
import { appendEvent } from '../store/events.ts';
import { insertOperation } from '../store/operations.ts';
import { countProviderTests, findTestForUpdate } from '../store/tests.ts';
import type { WorkspaceRow } from '../store/workspaces.ts';
import { insertWorkspace } from '../store/workspaces.ts';
import { failoverTestDataSchema } from './failover-test.ts';
import type { OperationParts } from './operation-parts.ts';
import { providerTestDataSchema } from './provider-test.ts';

/** Each holds a machine that costs money; a person looks at one or two. */
const MAX_PROVIDER_TESTS = 4;

type StartParts = Pick<OperationParts, 'db' | 'clock' | 'onChange'>;

/**
 * Writes down a test of a workspace's failover.
 * @throws {DumontError} CONFLICT while another one of this workspace runs; USAGE for a model without a workload
 */
export async function startFailoverTest(
  parts: StartParts,
  workspace: Pick<WorkspaceRow, 'id' | 'name' | 'policy'>,
  { model, check }: Pick<FailoverTestBody, 'model' | 'check'>,
): Promise<OperationId> {
  const wantedCheck = checkOf(workspace.policy.workload, { model, check });
  const data = failoverTestDataSchema.parse({ wantedCheck });
  const testId = newId('operation');
  const { id: workspaceId } = workspace;
  await parts.db.transaction(async (tx) => {
    const running = await findTestForUpdate(tx, workspaceId);
    if (running !== undefined) {
      throw new DumontError('CONFLICT', `a test of workspace ${workspace.name} is under way: ${running}`, {
        retryable: true,
        hint: `Follow it with "dumont operations show ${running}", or end it with "dumont test cancel ${running}".`,
      });
    }
    const atMs = parts.clock.nowMs();
    await insertOperation(tx, { id: testId, kind: 'failover-test', workspaceId, state: 'snapshotting', data, atMs });
    const about = { kind: 'failover-test', model: model ?? null };
    await appendEvent(tx, { type: 'test.started', atMs, workspaceId, operationId: testId, data: about });
  });
  parts.onChange();
  return testId;
}

/**
 * Writes down a test of a provider, and the workspace that its machine belongs to: every machine has one, and this one's is
 * nobody's.
 * @throws {DumontError} USAGE for an unknown provider, or none where there are several; CONFLICT with too many under way
 */
export async function startProviderTest(
  parts: StartParts & { readonly providers: ProviderRegistry },
  body: ProviderTestBody,
): Promise<OperationId> {
  const provider = providerOf(parts.providers, body.provider);
  const { gpuName = null, maxCostMicroUsd, requireGpu } = body;
  const data = providerTestDataSchema.parse({ provider, gpuName, maxCostMicroUsd, requireGpu });
  if ((await countProviderTests(parts.db)) >= MAX_PROVIDER_TESTS) {
    throw new DumontError('CONFLICT', `${MAX_PROVIDER_TESTS} tests of providers are under way`, { retryable: true });
  }
  const testId = newId('operation');
  const workspaceId: WorkspaceId = newId('workspace');
  const name = `provider-test-${testId.slice('op_'.length)}`;
  await parts.db.transaction(async (tx) => {
    const atMs = parts.clock.nowMs();
    await insertWorkspace(tx, { id: workspaceId, name, policy: workspacePolicySchema.parse({}), atMs });
    await insertOperation(tx, { id: testId, kind: 'provider-test', workspaceId, state: 'searching', data, atMs });
    const about = { kind: 'provider-test', provider };
    await appendEvent(tx, { type: 'test.started', atMs, workspaceId, operationId: testId, data: about });
  });
  parts.onChange();
  return testId;
}

function providerOf(providers: ProviderRegistry, name: string | undefined): string {
  // Machines that owners bring cannot be rented.
  const names = [...providers.keys()].filter((each) => each !== 'own');
  const hint = `Configured: ${names.join(', ') || 'none'}.`;
  if (name !== undefined && names.includes(name)) return name;
  if (name !== undefined) throw new DumontError('USAGE', `there is no provider "${name}"`, { field: 'provider', hint });
  const [only, second] = names;
  if (only === undefined) throw new DumontError('USAGE', 'no provider is configured', { field: 'provider' });
  if (second === undefined) return only;
  throw new DumontError('USAGE', 'which provider? There are several', { field: 'provider', hint });
}

/** What has to answer on the test machine; null where nothing was asked for. Pure. */
function checkOf(
  workload: Workload | undefined,
  { model, check }: Pick<FailoverTestBody, 'model' | 'check'>,
): WorkloadCheck | null {
  if (model === undefined && check === undefined) return null;
  if (workload === undefined) {
    throw new DumontError('USAGE', 'the workspace has no workload that could serve a model', { field: 'model' });
  }
  const base = check ?? workload.check;
  if (model === undefined) return base ?? null;
  if (base === undefined || base.kind === 'http') return workloadCheckSchema.parse({ kind: 'ollama', model });
  return { ...base, model };
}
