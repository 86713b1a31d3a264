import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { StrategyName } from '@dumont/shared/model/policy.ts';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Bell } from '@dumont/shared/util/bell.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { AgentHub } from '../hub/agent-hub.ts';
import type { ProviderRegistry } from '../providers/provider.ts';
import type { LedgerRenter, RentalOwner } from '../provisioning/ledger-renter.ts';
import type { Renter, Strategy } from '../provisioning/strategy.ts';
import type { Database } from '../store/database.ts';
import type { StandbyLag } from '../hub/standby-lag.ts';
import type { Wardship } from './wardship.ts';

/** Bounds of the operations, milliseconds. */
export interface OperationLimits {
  /** From rental to the agent's hello; marketplaces boot in 1–5 min, later is as good as never. */
  readonly bootDeadlineMs: number;
  readonly restoreTimeoutMs: number;
  /** The workload counts as running once it stayed up this long. */
  readonly workloadStableMs: number;
  readonly workloadStartTimeoutMs: number;
  /** A machine being prepared whose agent says nothing for this long has failed. */
  readonly contactLossMs: number;
  /** Grace for the workload to end in an orderly stop. */
  readonly workloadGraceMs: number;
  readonly finalSnapshotTimeoutMs: number;
  /** How long an operation waits for the proof that a released machine is gone; the sweeper goes on after that. */
  readonly releaseWaitMs: number;
  /** After this long without a machine an operation gives up. */
  readonly giveUpAfterMs: number;
  /** Pause between searches that found nothing or attempts that failed. */
  readonly retryPauseMs: number;
  /** Users on a standby can work: after a failover that found no GPU the next search waits, so that nobody rents in a storm. */
  readonly wayBackPauseMs: number;
}

/** What the steps of all operations work with. */
export interface OperationParts {
  readonly db: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly hub: Pick<AgentHub, 'isConnected' | 'run' | 'heardAtMonotonicMs'>;
  readonly providers: ProviderRegistry;
  readonly strategies: Readonly<Record<StrategyName, Strategy>>;
  readonly wardship: Pick<Wardship, 'watch' | 'unwatch' | 'inform' | 'isAlive'>;
  /** What a primary's last beat that had a word on it said of its standby; undefined when none did since we run. */
  readonly standbyLag: (primaryId: InstanceId) => StandbyLag | undefined;
  readonly limits: OperationLimits;
  /** Rings when a workspace was fenced or got a primary, or a machine was proven gone. */
  readonly changed: Bell;
  renterFor(owner: RentalOwner): Renter & Pick<LedgerRenter, 'adopt'>;
  /** Called after each commit that appended events. */
  onChange(): void;
}
