import { createHash, timingSafeEqual } from 'node:crypto';
import type { InstanceId } from '@dumont/shared/model/ids.ts';
import type { Hello } from '@dumont/shared/protocol/hello.ts';
import type { SnapshotCommit, SnapshotVerdict } from '@dumont/shared/protocol/snapshot.ts';
import { CLOSE_CODES } from '@dumont/shared/protocol/version.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { AgentDirectory, Refusal } from '../hub/agent-directory.ts';
import type { Database } from '../store/database.ts';
import { appendEvent } from '../store/events.ts';
import { applyInstanceEvent, findInstance } from '../store/instances.ts';
import { commitSnapshot } from '../store/snapshots.ts';
import { recordUpgrade } from '../upgrades/upgrade-history.ts';
import type { AssignmentSettings } from './assignments.ts';
import { assignmentFor, refOf } from './assignments.ts';

/** Lower-case hex SHA-256: what the database keeps of an agent's token. */
export function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

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
    const given = Buffer.from(hashToken(hello.token), 'hex');
    if (instance === undefined || !timingSafeEqual(given, Buffer.from(instance.tokenHash, 'hex'))) {
      // One answer for both, so that a stranger cannot probe which instances exist.
      return refuse('UNAUTHORIZED', CLOSE_CODES.unauthorized, {
        message: `instance ${hello.instanceId} is unknown or its token is wrong`,
        hint: 'Check DUMONT_INSTANCE_ID and DUMONT_AGENT_TOKEN; a machine rented by another control plane cannot join.',
        field: 'token',
      });
    }
    if (instance.role !== hello.role) {
      return refuse('PROTOCOL', CLOSE_CODES.protocol, {
        message: `instance ${hello.instanceId} was rented as ${instance.role}, its agent says ${hello.role}`,
        hint: 'Set DUMONT_ROLE to the role the machine was rented for.',
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
}

function refuse(
  code: 'UNAUTHORIZED' | 'PROTOCOL' | 'CONFLICT',
  closeCode: number,
  words: Omit<Refusal['refused'], 'code'>,
): Refusal {
  return { kind: 'refused', closeCode, refused: { code, ...words } };
}
