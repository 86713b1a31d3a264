import { LedgerRenter, type RenterParts } from '@dumont/control-plane/provisioning/ledger-renter.ts';
import { Sweeper } from '@dumont/control-plane/provisioning/sweeper.ts';
import type { Database } from '@dumont/control-plane/store/database.ts';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { findInstance, type InstanceRow } from '@dumont/control-plane/store/instances.ts';
import { findLedger, type LedgerRow } from '@dumont/control-plane/store/ledger.ts';
import { insertOperation, saveProgress } from '@dumont/control-plane/store/operations.ts';
import { insertWorkspace } from '@dumont/control-plane/store/workspaces.ts';
import type { InstanceId, OperationId, WorkspaceId } from '@dumont/shared/model/ids.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import type { Offer } from '@dumont/shared/model/offer.ts';
import { workspacePolicySchema } from '@dumont/shared/model/policy.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { ManualClock } from '../../../world/manual-clock.ts';
import { MemoryProvider } from '../../../world/memory-provider.ts';

const BUSY_PERIOD_MS = 500;
const IDLE_PERIOD_MS = 15_000;
export const LABEL_PREFIX = 'dumont-test-';

/** A renter and a sweeper over a real database and a market in memory, with a clock that moves when told. */
export class LedgerWorld {
  readonly provider = new MemoryProvider();
  readonly clock = new ManualClock();
  readonly db: Database;
  readonly workspaceId: WorkspaceId = newId('workspace');
  readonly operationId: OperationId = newId('operation');
  readonly renter: LedgerRenter;
  readonly sweeper: Sweeper;
  readonly gone: InstanceId[] = [];
  readonly connected = new Set<InstanceId>();
  releaseCount = 0;

  private constructor(db: Database) {
    this.db = db;
    const shared = {
      db,
      clock: this.clock,
      log: createLogger('test', 'silent'),
      providers: new Map([[this.provider.name, this.provider]]),
      labelPrefix: LABEL_PREFIX,
      onChange: () => {},
    };
    const parts: RenterParts = {
      ...shared,
      presence: {
        isConnected: (id) => this.connected.has(id),
        waitConnected: (id, { signal }) => (this.connected.has(id) ? Promise.resolve() : untilAborted(signal)),
      },
      enrolTokenMs: 600_000,
      startScriptMs: 90_000,
      agentEnvironment: { DUMONT_CONTROL_URL: 'http://127.0.0.1:1' },
      onRelease: () => (this.releaseCount += 1),
    };
    this.renter = new LedgerRenter(parts, this);
    const sweeperParts = {
      ...shared,
      busyPeriodMs: BUSY_PERIOD_MS,
      goneGapMs: BUSY_PERIOD_MS - 100,
      idlePeriodMs: IDLE_PERIOD_MS,
      onGone: (id: InstanceId) => void this.gone.push(id),
    };
    this.sweeper = new Sweeper(sweeperParts);
  }

  /** A workspace with one unfinished operation. */
  static async make(db: Database): Promise<LedgerWorld> {
    const world = new LedgerWorld(db);
    const { workspaceId, operationId } = world;
    const atMs = world.clock.nowMs();
    await insertWorkspace(db, { id: workspaceId, name: 'w', policy: workspacePolicySchema.parse({}), atMs });
    await insertOperation(db, { id: operationId, kind: 'provision', workspaceId, state: 'searching', data: {}, atMs });
    return world;
  }

  /** The first of the market. */
  get offer(): Offer {
    return must(this.provider.offers[0], 'the market has offers');
  }

  get signal(): AbortSignal {
    return new AbortController().signal;
  }

  /** Orders the first offer. @returns the machine, which must have been rented */
  async rent(): Promise<InstanceId> {
    const outcome = await this.renter.rent(this.offer, this.signal);
    if (outcome.kind !== 'rented') throw new Error(`expected a machine, got ${outcome.kind}`);
    return outcome.instanceId;
  }

  async ledger(instanceId: InstanceId): Promise<LedgerRow> {
    return must(await findLedger(this.db, instanceId), 'every order is in the books');
  }

  async instance(instanceId: InstanceId): Promise<InstanceRow> {
    return must(await findInstance(this.db, instanceId), 'every order is an instance');
  }

  /** The instance of the newest order, from its label. */
  get ordered(): InstanceId {
    const { label } = must(this.provider.orders.at(-1), 'something was ordered');
    return label.slice(LABEL_PREFIX.length) as InstanceId;
  }

  async events(): Promise<readonly string[]> {
    return (await listEvents(this.db, { after: 0, limit: 100 })).map(({ type }) => type);
  }

  /** Rounds of the sweeper, a busy period apart. @returns machines still open after the last */
  async sweep(rounds = 1): Promise<number> {
    let open = 0;
    for (let round = 0; round < rounds; round += 1) {
      this.clock.skip(BUSY_PERIOD_MS);
      ({ open } = await this.sweeper.sweep());
    }
    return open;
  }

  /** A round that also looks for strangers and forgotten machines. */
  async sweepAfterIdling(): Promise<void> {
    this.clock.skip(IDLE_PERIOD_MS);
    await this.sweeper.sweep();
  }

  async finishOperation(): Promise<void> {
    await this.db.query('update operations set lease_owner = $2 where id = $1', [this.operationId, 'me']);
    const isOurs = await saveProgress(this.db, this.operationId, {
      owner: 'me',
      fromState: 'searching',
      state: 'completed',
      data: {},
      atMs: this.clock.nowMs(),
      finished: true,
      error: null,
      runAtMs: null,
    });
    if (!isOurs) throw new Error('the operation is not ours');
  }
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
