import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Hello } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotCommit, SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { AgentDirectory, Refusal } from '../hub/agent-directory.ts';
import { claimFormerReport, promoteCredential, proposeCredential } from '../store/credentials.ts';
import type { Database, Queryable } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { applyInstanceEvent, findInstance, type InstanceRow } from '../store/instances.ts';
import { commitSnapshot } from '../store/snapshots.ts';
import { recordUpgrade } from '../upgrades/upgrade-history.ts';
import type { AssignmentSettings } from './assignments.ts';
import { assignmentFor, refOf } from './assignments.ts';
import { hashSecret, rankCredential } from './credentials.ts';

/** Somebody who keeps trying a credential of the past is one piece of news, not thousands. */
const REPORT_GAP_MS = 60_000;

/** Answers the hub's questions from the database. */
export class DatabaseAgentDirectory implements AgentDirectory {
  readonly #db: Database;
  readonly #clock: Clock;
  readonly #settings: AssignmentSettings;
  readonly #storageName: string;
  readonly #onChange: () => void;

  constructor(options: {
    readonly db: Database;
    readonly clock: Clock;
    readonly settings: AssignmentSettings;
    /** STORAGE_PROVIDER, recorded with each snapshot. */
    readonly storageName: string;
    /** Called after each commit that appended events. */
    readonly onChange: () => void;
  }) {
    this.#db = options.db;
    this.#clock = options.clock;
    this.#settings = options.settings;
    this.#storageName = options.storageName;
    this.#onChange = options.onChange;
  }

  async admit(hello: Hello): ReturnType<AgentDirectory['admit']> {
    const instance = await findInstance(this.#db, hello.instanceId);
    const rank = instance === undefined ? 'none' : rankCredential(hello.credential, instance);
    if (instance === undefined || rank === 'none' || rank === 'former') {
      if (instance !== undefined && rank === 'former') await this.#reportFormer(instance, hello);
      // One answer for all, so that a stranger cannot probe which instances exist.
      return refuse('UNAUTHORIZED', CLOSE_CODES.unauthorized, {
        message: `instance ${hello.instanceId} is unknown or its credential is not the present one`,
        hint: 'A copy of the agent may have replaced the credential, or another control plane gave it out: see "dumont events". To join anew, remove credential.json from the state directory and enrol with a new token.',
        field: 'credential',
      });
    }
    if (rank === 'next') await this.confirmCredential(instance.id, hello.credential);
    if (instance.role !== hello.role) {
      return refuse('PROTOCOL', CLOSE_CODES.protocol, {
        message: `instance ${hello.instanceId} joined as ${instance.role}, its agent says ${hello.role}`,
        hint: 'The role comes from the enrolment: do not edit credential.json.',
        field: 'role',
      });
    }
    if (instance.state === 'releasing' || instance.state === 'gone') {
      return refuse('CONFLICT', CLOSE_CODES.released, {
        message: `instance ${hello.instanceId} was given back`,
        hint: 'Its workspace lives on another machine; this one is being destroyed.',
      });
    }
    await this.#db.transaction(async (tx) => {
      const change = await applyInstanceEvent(tx, instance.id, 'agentReady', this.#clock.nowMs());
      if (change === undefined || change.before === change.after) return;
      await appendEvent(tx, {
        type: 'instance.ready',
        atMs: this.#clock.nowMs(),
        workspaceId: instance.workspaceId,
        instanceId: instance.id,
        operationId: instance.operationId,
        data: { hostname: hello.hostname, agentVersion: hello.agentVersion },
      });
    });
    if (hello.lastUpgrade !== undefined) {
      await recordUpgrade(this.#db, instance, hello.lastUpgrade, this.#clock.nowMs());
    }
    this.#onChange();
    const assignment = must(await assignmentFor(this.#db, instance.id, this.#settings), 'the instance was just seen');
    return { kind: 'admitted', assignment };
  }

  async proposeCredential(instanceId: InstanceId, credential: string): Promise<void> {
    await proposeCredential(this.#db, instanceId, hashSecret(credential));
  }

  async confirmCredential(instanceId: InstanceId, credential: string): Promise<void> {
    const promoted = await this.#db.transaction(async (tx) => {
      if (!(await promoteCredential(tx, instanceId, hashSecret(credential)))) return false;
      const instance = must(await findInstance(tx, instanceId), 'the instance was just updated');
      await this.#tell(tx, instance, 'credential.replaced');
      return true;
    });
    if (promoted) this.#onChange();
  }

  async commitSnapshot(instanceId: InstanceId, commit: SnapshotCommit): Promise<SnapshotVerdict['verdict']> {
    const instance = await findInstance(this.#db, instanceId);
    if (instance === undefined) throw new DumontError('NOT_FOUND', `instance ${instanceId} does not exist`);
    const outcome = await commitSnapshot(this.#db, {
      workspaceId: instance.workspaceId,
      instanceId,
      epoch: commit.epoch,
      record: commit.snapshot,
      storage: this.#storageName,
      atMs: this.#clock.nowMs(),
    });
    switch (outcome.kind) {
      case 'committed':
        this.#onChange();
        return { kind: 'committed', seq: outcome.snapshot.seq };
      case 'stale-epoch':
        return outcome;
      case 'stale-parent':
        return { kind: 'stale-parent', head: outcome.head === null ? null : refOf(outcome.head) };
    }
  }

  async #reportFormer(instance: InstanceRow, hello: Hello): Promise<void> {
    const reported = await this.#db.transaction(async (tx) => {
      const atMs = this.#clock.nowMs();
      if (!(await claimFormerReport(tx, instance.id, { atMs, gapMs: REPORT_GAP_MS }))) return false;
      await this.#tell(tx, instance, 'credential.refused', { hostname: hello.hostname });
      return true;
    });
    if (reported) this.#onChange();
  }

  async #tell(
    tx: Queryable,
    instance: InstanceRow,
    type: 'credential.replaced' | 'credential.refused',
    data: Readonly<Record<string, unknown>> = {},
  ): Promise<void> {
    const { workspaceId, id: instanceId, operationId } = instance;
    await appendEvent(tx, { type, atMs: this.#clock.nowMs(), workspaceId, instanceId, operationId, data });
  }
}

function refuse(
  code: 'UNAUTHORIZED' | 'PROTOCOL' | 'CONFLICT',
  closeCode: number,
  words: Omit<Refusal['refused'], 'code'>,
): Refusal {
  return { kind: 'refused', closeCode, refused: { code, ...words } };
}
